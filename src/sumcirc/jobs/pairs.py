"""`sumcirc pairs`: writes clean and corrupted documents as JSON lines for `sumcirc circuit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sumcirc.errors import UserError
from sumcirc.runtime.terminal import say
from sumcirc.schema import PairsConfig, corruption_of

if TYPE_CHECKING:
    from sumcirc.circuits.inputs.example_pairs import ExamplePair
    from sumcirc.data.encoding import Encoder

EXAMPLES = 3  # number of changed places that are printed


def check(config: PairsConfig) -> None:
    """Check the settings before the job starts, so that it doesn't fail later.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it, its value and the remedy.
    """
    from sumcirc.data.documents import check_files
    from sumcirc.jobs._encoding import check_encoding
    from sumcirc.models.architectures import architecture
    from sumcirc.models.loading import read_model_config
    from sumcirc.models.restoring import check_reference, reference_of
    from sumcirc.training.machine import check_machine

    _check_out(config)
    corruption_of(config.corruption, config.data.source, "corruption", config.metric)
    check_machine(config.trainer)
    _check_permuted(config)
    check_files(config.data, (config.split,))
    check_reference(reference_of(config), analysed=config.filter)
    check_encoding(config.model, config.encoding)
    architecture(read_model_config(config.model))


def _check_permuted(config: PairsConfig) -> None:
    seed = config.data.permute_summaries
    if seed is not None and config.split == "train":
        raise UserError(
            f"data.permute_summaries={seed}: is for training, and pairs are made from documents"
            " with their own summaries; add data.permute_summaries=null, or take another split"
        )


def _check_out(config: PairsConfig) -> None:
    from sumcirc.storage.writing import check_writable

    out = Path(config.out)
    if out.is_dir():
        raise UserError(f"out={config.out}: is a folder; name a file in it, {out / 'pairs.jsonl'}")
    if out.suffix != ".jsonl":
        raise UserError(f"out={config.out}: holds JSON lines; name it NAME.jsonl")
    if out.exists() and not config.overwrite:
        raise UserError(f"out={config.out}: exists already; name a new file or set overwrite=true")
    if not out.exists():
        check_writable("out", out)


def run(config: PairsConfig, folder: Path) -> None:
    """Make the pairs and write them to the file `config.out`.

    Args:
        config: configuration of the job.
        folder: not used, since this job has no run directory.
    """
    from sumcirc.circuits.inputs.corruption import corpus_pairs, exchanged_notice
    from sumcirc.circuits.inputs.pair_files import write_pairs
    from sumcirc.data.documents import read_corpus
    from sumcirc.data.encoding import Encoder
    from sumcirc.models.architectures import context_length
    from sumcirc.models.loading import load_tokenizer, read_model_config
    from sumcirc.runtime.notices import Notices, left_out
    from sumcirc.runtime.progress import counted
    from sumcirc.training.machine import set_threads

    _check_out(config)  # another job of this launch may have written it
    set_threads(config.trainer)
    context = context_length(read_model_config(config.model))
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context)
    corpus = read_corpus(config.data, config.split)
    documents = corpus.documents
    corruption = corruption_of(config.corruption, config.data.source, "corruption", config.metric)
    with counted("make pairs", min(len(documents), config.documents or len(documents))) as advance:
        made = corpus_pairs(
            encoder,
            documents,
            corruption,
            config.documents,
            config.evaluation,
            "documents",
            config.data.seed,
            advance,
        )
    pairs, notices = made.pairs, Notices()
    notices.tell(*corpus.notices, *made.notices)
    further: list[dict[str, Any]] | None = None
    if config.filter:
        pairs, further, counts = _filtered(config, pairs)
        notices.tell(*left_out("filter", "pairs", counts, len(made.pairs)))
        notices.tell(exchanged_notice("filter", pairs))
    write_pairs(Path(config.out), pairs, encoder, further)
    looked_at = len(made.pairs) + sum(made.dropped.values())
    say(f"{made.corruption}: {len(pairs)} pairs from {looked_at} documents")
    _print(config, encoder, pairs, further)


def _filtered(
    config: PairsConfig, pairs: list[ExamplePair]
) -> tuple[list[ExamplePair], list[dict[str, Any]], dict[str, int]]:
    """Return the pairs whose corrupted document has a higher loss than the clean one.

    Further results are the losses of these pairs, and how many others were dropped by reason.
    """
    from sumcirc.circuits.inputs.filtering import answerable, losses
    from sumcirc.models.restoring import load_reference, reference_of
    from sumcirc.runtime.progress import counted
    from sumcirc.training.machine import device

    metric = config.metric
    told = answerable(pairs, metric)
    model: Any = load_reference(reference_of(config))
    model.to(device(config.trainer))
    with counted(f"score pairs by {metric.value}", len(told)) as scored:
        clean, corrupted = losses(model, told, metric, config.batch_size, scored)
    kept, further = [], []
    for pair, low, high in zip(told, clean.tolist(), corrupted.tolist(), strict=True):
        if high > low:
            kept.append(pair)
            further.append({"loss": {"metric": metric.value, "clean": low, "corrupted": high}})
    if not kept:
        raise UserError(
            f"filter=true: corruption raises the {metric.value} of none of {len(told)} pairs, so"
            " nothing was written; train the model first (checkpoint=RUN_DIR), or filter=false"
        )
    counts = {
        "no other answer is known": len(pairs) - len(told),
        f"{metric.value} does not rise": len(told) - len(kept),
    }
    return kept, further, {reason: count for reason, count in counts.items() if count}


def _print(
    config: PairsConfig,
    encoder: Encoder,
    pairs: Sequence[ExamplePair],
    further: Sequence[dict[str, Any]] | None,
) -> None:
    changed = [float(pair.differs.sum()) for pair in pairs]
    lengths = [len(pair.clean) for pair in pairs]
    say(f"tokens changed: {np.mean(changed):.1f} of {np.mean(lengths):.1f}, mean over pairs")
    if further:
        means = [np.mean([one["loss"][run] for one in further]) for run in ("clean", "corrupted")]
        say(f"{config.metric.value}: clean {means[0]:.3f}, corrupted {means[1]:.3f}")
    say(f"changes in `{pairs[0].id}`:")
    for line in _changes(pairs[0], encoder):
        say(f"  {line}")
    say(f"written: {config.out}")


def _changes(pair: ExamplePair, encoder: Encoder) -> list[str]:
    """Return lines that show the first differences between the texts of a pair.

    Control characters are escaped.
    """
    places = np.flatnonzero(pair.differs)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)[:EXAMPLES]
    shown = []
    for run in runs:
        texts = [encoder.decode(ids[run].tolist()) for ids in (pair.clean.ids, pair.corrupted.ids)]
        shown.append(" -> ".join(json.dumps(text, ensure_ascii=False)[:60] for text in texts))
    return shown
