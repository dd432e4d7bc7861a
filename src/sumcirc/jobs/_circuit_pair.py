"""Two circuits side by side: of two models on the same pairs, or of two files.

`sumcirc circuit checkpoint=ONE against=OTHER` finds both circuits; `sumcirc compare BEFORE.json
AFTER.json` reads circuits that were found earlier, or by EAP-IG's own tools.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.runtime.terminal import say
from sumcirc.storage.writing import check_writable

if TYPE_CHECKING:
    from sumcirc.circuits.card.other_tasks import OtherPairs
    from sumcirc.circuits.circuit_comparison import CircuitChange
    from sumcirc.circuits.discovery import CircuitResult
    from sumcirc.circuits.eap_ig_format import Circuit
    from sumcirc.circuits.score_files import DocumentScores
    from sumcirc.circuits.tasks import SplitTask
    from sumcirc.runtime.notices import Notices
    from sumcirc.schema import CircuitConfig, CircuitOptions
    from sumcirc.tracking.run_directory import RunDirectory

log = logging.getLogger(__name__)

OTHER = "against"  # files of the second model: circuits/against.json, circuits/against.safetensors
COMPARISON = "comparison.json"
FIGURE = "circuit_comparison"


def compare_with(
    config: CircuitConfig,
    directory: RunDirectory,
    model: Any,
    split: SplitTask,
    found: CircuitResult,
    others: dict[str, OtherPairs],
    notices: Notices,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Find the circuit of the model `against` on the same pairs, and compare it with another's.

    The pairs are those on which corruption raises the metric of the first model; all of them are
    used for the second, so that the two circuits differ in the model alone.

    Args:
        config: configuration of the job.
        directory: the run directory, in which the second circuit, its scores, the comparison and a
            figure are written.
        model: the first model, whose memory is freed.
        split: the first model's pairs.
        found: the first model's circuit.
        others: pairs for the lines of the second circuit's card that need others.
        notices: collects a notice if corruption has no effect on the second model.

    Returns:
        The entry `against` of the run's summary, the content of comparison.json, and that of the
        second circuit's card, as from `write_card`.
    """
    from sumcirc.circuits.circuit_comparison import NamedCircuit, compare_circuits, resample
    from sumcirc.circuits.discovery import circuit_runs, judge, score_edges, to_store
    from sumcirc.circuits.tasks import SplitTask, make_task
    from sumcirc.jobs._circuit_card import OTHER_FILE, summarized, write_card
    from sumcirc.models.restoring import against_of, load_reference, release
    from sumcirc.runtime.progress import counted
    from sumcirc.storage.writing import plain_numbers, write_json
    from sumcirc.training.machine import device

    reference, options = against_of(config), config.circuit
    assert reference is not None
    release(model)  # `split` still refers to it
    other = load_reference(reference).to(device(config.trainer))  # type: ignore[arg-type]
    their_task = make_task(other, split.task.pairs, options, keep_all=True)
    held_out = None
    if split.held_out is not None:
        held_out = make_task(other, split.held_out.pairs, options, keep_all=True, attributed=False)
    with counted(f"attribute {reference.name}", len(their_task.pairs)) as attributed:
        scores = score_edges(other, their_task, options, attributed)
    runs = circuit_runs(their_task, options, held_out)
    with counted(f"judge circuits of {reference.name}", runs) as judged:
        theirs = judge(their_task, scores, options, judged, held_out)
    notices.tell(*their_task.notices, *(held_out.notices if held_out is not None else ()))
    theirs.save(directory.circuits / f"{OTHER}.json")
    pairs = SplitTask(their_task, held_out, [])
    card = write_card(config, other, pairs, theirs, others, directory.circuits / OTHER_FILE)
    stored = to_store(theirs.scores, options, 0)
    stored.save(directory.circuits / f"{OTHER}.safetensors")
    resampled = None
    if len(split.task.pairs) > 1:
        resampled = resample(stored, to_store(found.scores, options, 1), options)
    change = compare_circuits(
        NamedCircuit(reference.name, theirs.signed_scores, theirs.circuit),
        NamedCircuit(_name(config), found.signed_scores, found.circuit),
        found.scores.graph,
        resampled,
    )
    record = plain_numbers(change.as_json())
    write_json(directory.circuits / COMPARISON, record)
    _draw(record, directory.figures)
    return _entry(change, theirs) | summarized(card), record, card


def _entry(change: CircuitChange, theirs: CircuitResult) -> dict[str, Any]:
    """Return the summary's entry about the second model, whose circuit is `theirs`."""
    edges = change.edges
    return {
        "model": change.before,
        "circuit_edges": edges.before,
        "faithfulness": asdict(theirs.faithfulness.faithfulness),
        "in_sample": None
        if theirs.in_sample is None
        else asdict(theirs.in_sample.faithfulness.faithfulness),
        "jaccard": edges.jaccard,
        "chance": edges.chance,
        "within": edges.within,
        "gained": edges.after - edges.shared,
        "lost": edges.before - edges.shared,
        "differs": edges.differs,
    }


def main(arguments: Sequence[str]) -> None:
    """Run `sumcirc compare BEFORE.json AFTER.json [out=FOLDER]`.

    Args:
        arguments: the words after `compare`.

    Raises:
        UserError: as in `read_words` and `compare_files`.
    """
    before, after, folder = read_words(arguments)
    check_writable("out", str(folder))
    compare_files(before, after, folder)


def read_words(arguments: Sequence[str]) -> tuple[Path, Path, Path]:
    """Return the two files that `sumcirc compare` is to compare, and the folder to write to.

    Args:
        arguments: the words after `compare`.

    Raises:
        UserError: there are not two files, or a word is neither a file nor `out=FOLDER`.
    """
    files = [Path(word).expanduser() for word in arguments if word.endswith(".json")]
    others = [word for word in arguments if not word.endswith(".json")]
    folders = [word.removeprefix("out=") for word in others if word.startswith("out=")]
    if len(files) != 2 or len(folders) < len(others):
        word = next((word for word in others if not word.startswith("out=")), None)
        count = f"{len(files)} {'file is' if len(files) == 1 else 'files are'} given"
        reason = f"{word}: has no effect on a comparison of two circuits" if word else count
        raise UserError(f"{reason}; write `sumcirc compare BEFORE.json AFTER.json [out=FOLDER]`")
    folder = Path(folders[-1]).expanduser() if folders else Path("circuit-comparison")
    return files[0], files[1], folder


def compare_files(before: Path, after: Path, folder: Path) -> None:
    """Compare the circuits in two files; print tables, write the comparison and a figure.

    If both files lie in run directories of this package and were selected by the same settings from
    scores on the same documents, the documents are resampled.

    Args:
        before, after: circuits in EAP-IG's JSON format.
        folder: folder to write to.

    Raises:
        UserError: a file can't be read, or the circuits are of models of different shapes.
    """
    from sumcirc.circuits.aggregation import signed_scores
    from sumcirc.circuits.circuit_comparison import NamedCircuit, compare_circuits, resample
    from sumcirc.circuits.discovery import circuit_of
    from sumcirc.circuits.eap_ig_format import read_circuit
    from sumcirc.circuits.sign_filter import ranking_scores
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.circuit_change import change_tables
    from sumcirc.storage.writing import plain_numbers, write_json

    files = [before, after]
    circuits = [read_circuit(path) for path in files]
    names = _distinct(before, after)
    named = [
        NamedCircuit(name, circuit.scores, circuit.kept)
        for name, circuit in zip(names, circuits, strict=True)
    ]
    graph, resampled, reason = circuits[0].graph, None, ""
    try:
        scores, options = _scores_beside(files, circuits)
        resampled = resample(scores[0], scores[1], options)
    except UserError as error:
        reason = str(error)
    else:
        # by the model's own graph, in which query heads may share keys and values
        graph = scores[0].graph
        named = []
        for name, one in zip(names, scores, strict=True):
            score = signed_scores(one.scores, options.aggregation)
            kept = circuit_of(ranking_scores(one.scores, graph, options), graph, options)
            named.append(NamedCircuit(name, score, kept))
    change = compare_circuits(named[0], named[1], graph, resampled)
    record = plain_numbers(change.as_json())
    write_json(folder / COMPARISON, record)
    _draw(record, folder)
    print_tables(*change_tables(record))
    if reason:
        say(f"documents are not resampled, so what differs beyond noise is unknown: {reason}")
    say(f"comparison and figure: {folder}")


def _scores_beside(
    files: Sequence[Path], circuits: Sequence[Circuit]
) -> tuple[list[DocumentScores], CircuitOptions]:
    """Return the scores from which two circuits were selected, and the settings of the selection.

    Raises:
        UserError: a file does not lie in a run directory beside its scores, its edges are not those
            that its scores select, or the two were selected by different settings.
    """
    import numpy as np

    from sumcirc.circuits.aggregation import aggregated
    from sumcirc.circuits.discovery import circuit_of
    from sumcirc.circuits.eap_ig_format import expanded
    from sumcirc.circuits.edge_selection import circuit_nodes
    from sumcirc.circuits.sign_filter import ranking_scores

    scores, options = [], []
    for path, circuit in zip(files, circuits, strict=True):
        one, settings = _stored_scores(path)
        score = aggregated(one.scores, settings.aggregation)
        kept = circuit_of(ranking_scores(one.scores, one.graph, settings), one.graph, settings)
        *_, whole = expanded(one.graph, score, kept, circuit_nodes(kept, one.graph))
        # stored scores have three digits, so a few edges may trade places
        if whole.shape != circuit.kept.shape or np.sum(whole ^ circuit.kept) > 0.05 * whole.sum():
            raise UserError(f"{path}: its edges are not those that the scores beside it select")
        scores.append(one)
        options.append(settings)
    for name in ("size", "select", "threshold", "aggregation", "sign_filter"):
        ours, theirs = (getattr(one, name) for one in options)
        if ours != theirs:
            raise UserError(
                f"circuit.{name}: is {ours} for {files[0]} and {theirs} for {files[1]}; find both"
                " circuits with the same settings"
            )
    return scores, options[0]


def _stored_scores(path: Path) -> tuple[DocumentScores, CircuitOptions]:
    """Return the scores beside a circuit in a run directory, and the run's settings for circuits.

    Raises:
        UserError: there are none.
    """
    from sumcirc.circuits.score_files import DocumentScores
    from sumcirc.schema import CircuitConfig, TrainConfig
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import stored_config

    run = RunDirectory(path.parent.parent)
    file = path.with_suffix(".safetensors")
    if path.name == "circuit.json":
        file = path.with_name("scores.safetensors")
    if not (file.is_file() and run.config_file.is_file()):
        raise UserError(f"{path}: there are no scores by document beside it in a run directory")
    trained = run.read_config()["verb"] == "train"
    config = stored_config(run, TrainConfig if trained else CircuitConfig)
    options = config.callbacks.circuit if isinstance(config, TrainConfig) else config.circuit
    return DocumentScores.read(file), options


def _name(config: CircuitConfig) -> str:
    from sumcirc.models.model_reference import reference
    from sumcirc.models.restoring import reference_of

    if config.checkpoint is None:
        return reference_of(config).name
    return reference(config.checkpoint, "checkpoint").name


def _distinct(before: Path, after: Path) -> tuple[str, str]:
    """Return short names for two files: as many of the last parts of their paths as differ."""
    parts = [path.resolve().with_suffix("").parts for path in (before, after)]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if names[0] != names[1]:
            break
    return names[0], names[1]


def _draw(record: dict[str, Any], folder: Path) -> None:
    from sumcirc.figures.views import draw_all
    from sumcirc.reporting.views.circuit_change import change

    for reason in draw_all([(FIGURE, lambda: change(record))], folder):
        log.info("figures: %s", reason)
