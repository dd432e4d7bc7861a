"""Reads and measures the texts of `evaluation.retention`, after training and in `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.notices import Notice, few
from sumcirc.storage.writing import write_table

if TYPE_CHECKING:
    from torch import nn

    from sumcirc.data.documents import Corpus
    from sumcirc.data.encoding import Encoder
    from sumcirc.models.base_beside import BaseBeside
    from sumcirc.runtime.notices import Notices
    from sumcirc.schema import EvaluateConfig, JobConfig
    from sumcirc.tracking.run_directory import RunDirectory

TOKENS = 2  # the fewest tokens of a text: the first has nothing from which it could be predicted


@dataclass(frozen=True)
class Texts:
    """One corpus of `evaluation.retention`, as a model reads it.

    Attributes:
        names: ids of the texts.
        ids: token ids of each text.
        fingerprint: hash of the texts before they are cut.
    """

    names: list[str]
    ids: list[list[int]]
    fingerprint: str


def read_retention(
    config: JobConfig, encoder: Encoder, notices: Notices, training: Corpus | None = None
) -> dict[str, Texts]:
    """Return the texts of each corpus by its name; empty if none are asked for.

    Args:
        config: the files, and how texts are drawn.
        encoder: encodes the texts, and says how many tokens a model reads.
        notices: collection to which notices about the texts are added.
        training: the training split, whose documents should not be among the texts.

    Raises:
        UserError: as in `read_texts`, or all texts of a corpus are too short.
    """
    from sumcirc.data.inspection import seen_before
    from sumcirc.data.plain_texts import read_texts
    from sumcirc.errors import UserError

    found = {}
    for name, corpus in read_texts(config.evaluation, config.data.seed).items():
        where, documents = f"evaluation.retention {name}", corpus.documents
        whole = {item.id: encoder.text(item.document) for item in documents}
        ids = {id: one[: encoder.max_length] for id, one in whole.items() if len(one) >= TOKENS}
        if not ids:
            raise UserError(f"{where}: no text has {TOKENS} tokens; give longer texts")
        cut = sum(len(one) > encoder.max_length for one in whole.values())
        words = f"texts are cut to the {encoder.max_length} tokens of the context"
        short = f"texts are left out: they have fewer than {TOKENS} tokens"
        notices.tell(
            *corpus.notices,
            Notice(where, "cut", cut, len(documents), words),
            Notice(where, "short", len(documents) - len(ids), len(documents), short),
            encoder.special_notice(where, documents),
            few(where, "texts", len(ids)),
        )
        if training is not None:
            notices.tell(seen_before(where, documents, training, "data.train"))
        found[name] = Texts([*ids], [*ids.values()], corpus.fingerprint)
    return found


def check_retention(config: EvaluateConfig) -> None:
    """Raise an error if the texts can't be measured with the job's model; reads no weights.

    Args:
        config: configuration of the job.

    Raises:
        UserError: as in `check_texts`, or the adapter does not read plain text.
    """
    from sumcirc.data.plain_texts import check_texts
    from sumcirc.models.peft_adapters import read_adapter, require_plain_text
    from sumcirc.models.restoring import reference_of

    if not config.evaluation.retention:
        return
    check_texts(config.evaluation)
    found = reference_of(config)
    if found.adapted:
        assert found.weights is not None
        require_plain_text([read_adapter(found.weights, found.given)], found.given)


def measure_retention(
    config: JobConfig,
    directory: RunDirectory,
    texts: Mapping[str, Texts],
    model: nn.Module,
    load_base: Callable[[], nn.Module] | None,
    system: str,
) -> dict[str, Any]:
    """Measure a model and its base on the texts, write retention.parquet, and return the summary.

    Args:
        config: batch size and settings of the bootstrap.
        directory: the run directory.
        texts: the texts of each corpus by its name.
        model: the model, on its device.
        load_base: loads the model that it was trained from, onto the same device; called if it
            can't be had by switching off an adapter. None if there is no base.
        system: name of the model, `base` or `trained`.

    Returns:
        The section `retention` of summary.json, or nothing if there are no texts.
    """
    from sumcirc.evaluation.retention import corpus_values, text_losses
    from sumcirc.models.base_beside import BaseBeside
    from sumcirc.runtime.progress import counted

    if not texts:
        return {}
    base: BaseBeside | None = None if load_base is None else BaseBeside(model, load_base)
    rows: list[dict[str, Any]] = []
    values = {}
    for name, one in texts.items():
        with counted(f"read {name}", len(one.ids)) as advance:
            losses = text_losses(model, base, one.ids, config.generation.batch_size, advance)
        rows += _rows(name, one.names, [asdict(loss) for loss in losses])
        measured = corpus_values(losses, config.evaluation, system)
        values[name] = {"items": one.fingerprint, **measured}
    write_table(directory.retention_file, rows)
    return {"retention": values}


def _rows(
    corpus: str, names: Sequence[str], losses: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    pairs = zip(names, losses, strict=True)
    return [{"corpus": corpus, "id": name, **loss} for name, loss in pairs]
