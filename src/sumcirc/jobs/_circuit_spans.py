"""The circuit by span of `sumcirc circuit circuit.by_span=true`: its pairs, files and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import say
from sumcirc.schema import CircuitConfig, CircuitOptions, Source

if TYPE_CHECKING:
    from sumcirc.circuits.discovery import CircuitResult
    from sumcirc.circuits.inputs.example_pairs import ExamplePair
    from sumcirc.data.documents import Document
    from sumcirc.data.encoding import Encoder
    from sumcirc.tracking.run_directory import RunDirectory

FILE, SCORES, FIGURE = "spans.json", "span-scores.safetensors", "circuit_spans"
SETTING = "circuit.by_span=true"


def divided(
    config: CircuitConfig,
    encoder: Encoder,
    pairs: Sequence[ExamplePair],
    documents: Sequence[Document] = (),
) -> list[ExamplePair]:
    """Return pairs whose spans divide all tokens, if circuits by span are wanted.

    The wire's articles have the spans that are known of them; others keep those of their pairs.

    Args:
        config: configuration of the job.
        encoder: turns texts into tokens.
        pairs: the pairs.
        documents: the documents from which they were made; none if they were given.

    Raises:
        UserError: a pair has no spans.
    """
    from sumcirc.circuits.inputs.division import covered, with_wire_spans

    if not config.circuit.by_span:
        return list(pairs)
    if documents and config.data.source is Source.wire:
        pairs = with_wire_spans(encoder, pairs, documents, config.data.seed)
    return covered(pairs, SETTING)


def write_spans(
    directory: RunDirectory, found: CircuitResult, options: CircuitOptions
) -> dict[str, Any] | None:
    """Write the circuit by span and its scores, and return the content of spans.json.

    Args:
        directory: the run directory.
        found: the circuit; nothing is written if it has none by span.
        options: settings of the circuit.
    """
    from sumcirc.circuits.spans.files import write_span_scores
    from sumcirc.storage.writing import write_json

    if found.by_span is None:
        return None
    write_span_scores(
        directory.circuits / SCORES,
        found.by_span.scores,
        options.method.value,
        options.metric.value,
        options.steps,
    )
    record = found.by_span.as_json()
    write_json(directory.circuits / FILE, record)
    return record


def summarized(record: dict[str, Any] | None) -> dict[str, Any]:
    """Return the entry `by_span` of a summary, or {} without a circuit by span.

    Args:
        record: from `write_spans`.
    """
    if record is None:
        return {}
    names = ("units", "touched", "outside", "faithfulness", "control")
    circuit = {name: record["circuit"][name] for name in names}
    return {"by_span": {name: record[name] for name in ("cancelled", "reached")} | circuit}


def print_spans(record: dict[str, Any] | None) -> None:
    """Print the tables of a circuit by span.

    Args:
        record: from `write_spans`.
    """
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.circuit_spans import span_tables, spans_said

    if record is None:
        return
    print_tables(*span_tables(record))
    for line in spans_said(record):
        say(line)
