"""Measures by rules whether a document supports a summary's names, numbers and dates.

Let M(x) be the distinct names, numbers and dates of a text x, and M_k(x) those of one kind k. For a
document d, a summary s and a reference r (F. Nan et al., Entity-level factual consistency of
abstractive text summarization, 2021, whose entities a model finds)

    entity_precision = |{m in M(s): d states m}| / |M(s)|     share that the document supports
    entity_recall    = |{m in M(r): s states m}| / |M(r)|     share of the reference's that s has

and the same by kind: `name_precision`, `number_recall`, and so on. Speakers such as `#Person1#` are
scored by themselves, as `speaker_precision` and `speaker_recall`: nearly every summary of a
dialogue names them, and they would hide what happens to the names. A share is None if its
denominator is 0. With several references, the one with the highest recall counts.

`data.mentions` finds the entities and looks them up; docs/faithfulness.md defines its rules and
gives their error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sumcirc.data.mentions import DATE, NAME, NUMBER, SPEAKER, Mention, TextIndex, mentions

# kinds that each pair of scores counts, by the first part of its name
_COUNTED = {
    "entity": (NAME, NUMBER, DATE),
    **{kind: (kind,) for kind in (NAME, NUMBER, DATE, SPEAKER)},
}
MEASURES = tuple(f"{name}_{part}" for name in _COUNTED for part in ("precision", "recall"))


def faithfulness(document: str, summary: str, references: Sequence[str]) -> dict[str, float | None]:
    """Return one summary's precisions and recalls, defined at the top of this file.

    Args:
        document: text of the document.
        summary: a summary of the document.
        references: its reference summaries.

    Returns:
        The value of each measure in `MEASURES`, by its name; None where it is undefined.
    """
    supported = _verdicts(mentions(summary, document), _index(document), partial=False)
    written = TextIndex(summary)
    recalled = [
        _verdicts(_reference_mentions(text, document), written, partial=True) for text in references
    ]
    found: dict[str, float | None] = {}
    for name, kinds in _COUNTED.items():
        found[f"{name}_precision"] = _share(supported, kinds)
        shares = [_share(verdicts, kinds) for verdicts in recalled]
        found[f"{name}_recall"] = max((one for one in shares if one is not None), default=None)
    return found


def unsupported(document: str, summary: str) -> list[Mention]:
    """Return the names, numbers, dates and speakers of a summary that its document doesn't state.

    Args:
        document: text of the document.
        summary: a summary of the document.
    """
    index = _index(document)
    return [one for one in mentions(summary, document) if not index.states(one)]


@lru_cache(maxsize=256)  # all systems of a table are scored on the same documents
def _index(document: str) -> TextIndex:
    return TextIndex(document)


@lru_cache(maxsize=4096)
def _reference_mentions(reference: str, document: str) -> tuple[Mention, ...]:
    return tuple(mentions(reference, document))


def _verdicts(found: Sequence[Mention], index: TextIndex, partial: bool) -> list[tuple[str, bool]]:
    return [(one.kind, index.states(one, partial)) for one in found]


def _share(verdicts: Sequence[tuple[str, bool]], kinds: Sequence[str]) -> float | None:
    counted = [good for kind, good in verdicts if kind in kinds]
    return sum(counted) / len(counted) if counted else None
