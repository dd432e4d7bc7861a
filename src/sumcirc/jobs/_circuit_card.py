"""The card of a circuit that `sumcirc circuit` found: its other pairs, its file and its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.schema import CircuitConfig, Corruption
from sumcirc.schema.circuits import corruption_of

if TYPE_CHECKING:
    from sumcirc.circuits.card.other_tasks import OtherPairs
    from sumcirc.circuits.discovery import CircuitResult
    from sumcirc.circuits.inputs.example_pairs import ExamplePair
    from sumcirc.circuits.tasks import SplitTask
    from sumcirc.data.encoding import Encoder

FILE, OTHER_FILE = "card.json", "against-card.json"
SETTING = "card.other"
# the corruption under which a circuit is judged again: as realistic as possible, but another
STRESS = {
    Corruption.swap: Corruption.replace,
    Corruption.counterfactual: Corruption.replace,
    Corruption.replace: Corruption.swap,
}


def check_other(config: CircuitConfig, encoder: Encoder) -> None:
    """Check the setting `card.other`.

    Args:
        config: configuration of the job.
        encoder: reads a file of pairs.

    Raises:
        UserError: it is neither a corruption that the data allow nor a readable file of pairs, or
            it has no effect.
    """
    from sumcirc.circuits.inputs.pair_files import read_pairs

    other, tested = config.card.other, config.card.tested
    if other is None:
        return
    if "specific" not in tested:
        raise UserError(
            f"{SETTING}={other}: is for the line `specific`; add it with"
            " card.lines=[quick,specific], or leave it out"
        )
    if other not in Corruption.__members__ or other == "auto":
        if not Path(other).is_file():
            known = ", ".join(one.name for one in Corruption if one is not Corruption.auto)
            raise UserError(f"{SETTING}={other}: is no file of pairs; give one, or one of {known}")
        read_pairs(other, encoder)
        return
    if config.pairs is not None:
        raise UserError(
            f"{SETTING}={other}: corrupts the documents of data, and pairs={config.pairs} has its"
            " own; give a file of pairs"
        )
    corruption_of(Corruption[other], config.data.source, SETTING)


def other_pairs(
    config: CircuitConfig, encoder: Encoder, pairs: Sequence[ExamplePair]
) -> dict[str, OtherPairs]:
    """Return the pairs that the lines `ablation` and `specific` need, where they are tested.

    Args:
        config: configuration of the job.
        encoder: turns texts into tokens.
        pairs: the circuit's own pairs.
    """
    from sumcirc.circuits.card.other_tasks import OtherPairs
    from sumcirc.circuits.inputs.pair_files import read_pairs

    tested, found = config.card.tested, {}
    own = "pairs of your own aren't made from documents"
    if "ablation" in tested:
        if config.pairs is not None:
            found["ablation"] = OtherPairs("", why=f"{own}, so they have no other corruption")
        else:
            found["ablation"] = _stressed(config, encoder, Corruption[pairs[0].corruption])
    if "specific" in tested:
        other = config.card.other
        if other is not None and other not in Corruption.__members__:
            found["specific"] = OtherPairs(Path(other).name, read_pairs(other, encoder))
        elif config.pairs is not None:
            why = f"{own}; give those of another task with {SETTING}=FILE"
            found["specific"] = OtherPairs("", why=why)
        else:
            found["specific"] = _made(config, encoder, Corruption[other or "control"])
    return found


def _stressed(config: CircuitConfig, encoder: Encoder, corruption: Corruption) -> OtherPairs:
    """Return pairs by the corruption with which another one is compared, see `STRESS`."""
    from sumcirc.circuits.card.other_tasks import OtherPairs

    if corruption not in STRESS:
        why = f"{corruption} has no other corruption to compare with"
        return OtherPairs("", why=why)
    return _made(config, encoder, STRESS[corruption])


def _made(config: CircuitConfig, encoder: Encoder, corruption: Corruption) -> OtherPairs:
    """Return pairs of the same documents under another corruption."""
    from sumcirc.circuits.card.other_tasks import OtherPairs
    from sumcirc.circuits.inputs.corruption import corpus_pairs
    from sumcirc.data.documents import read_corpus

    documents = read_corpus(config.data, "test").documents
    try:
        made = corpus_pairs(
            encoder,
            documents,
            corruption,
            config.circuit.documents,
            config.evaluation,
            "circuit.documents",
            config.data.seed,
        )
    except UserError as error:
        return OtherPairs(str(corruption), why=str(error))
    return OtherPairs(str(corruption), made.pairs)


def write_card(
    config: CircuitConfig,
    model: Any,
    split: SplitTask,
    found: CircuitResult,
    others: dict[str, OtherPairs],
    file: Path,
) -> dict[str, Any] | None:
    """Test a circuit, write its card, and return the content of the file.

    Args:
        config: configuration of the job.
        model: the model.
        split: the pairs that chose the edges, and the held-out ones.
        found: the circuit.
        others: pairs for the lines that need others, from `other_pairs`.
        file: the file to write.

    Returns:
        The content of the file; None with `card.lines=none`.
    """
    from sumcirc.circuits.card.making import make_card
    from sumcirc.runtime.progress import counted
    from sumcirc.storage.writing import write_json

    if not config.card.made:
        return None
    card = make_card(
        model,
        split.task,
        split.held_out,
        found,
        config.circuit,
        config.card,
        others=others,
        counted=counted,
    )
    record = card.as_json()
    write_json(file, record)
    return record


def summarized(record: dict[str, Any] | None) -> dict[str, Any]:
    """Return the entry `card` of a summary: the counts, and each line's verdict.

    Args:
        record: from `write_card`; without a card there is no entry.
    """
    if record is None:
        return {}
    counts = {name: record[name] for name in ("passed", "failed", "not_tested")}
    verdicts = {line["name"]: line["status"] for line in record["lines"]}
    return {"card": counts | {"verdicts": verdicts}}


def print_card(of: str, record: dict[str, Any] | None) -> None:
    """Print the card of a circuit.

    Args:
        of: which circuit it is.
        record: from `write_card`; without a card nothing is printed.
    """
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.circuit_card import card_table
    from sumcirc.reporting.views.circuit_card import counted as in_words

    if record is None:
        return
    title = f"card of {of}: {in_words(record)} (how to read it: docs/circuit-card.md)"
    print_tables(card_table(record, title))
