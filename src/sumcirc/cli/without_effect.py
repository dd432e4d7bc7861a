"""Refuses settings that the user typed and that would have no effect on the verb.

Settings that a checkpoint or an experiment provides are not refused: they are the whole of what a
run was made with, of which each verb reads its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sumcirc.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# of `trainer`, all but devices and threads
TRAINING = tuple(
    f"trainer.{name}"
    for name in (
        *("precision", "max_epochs", "max_steps", "extension", "accumulate", "buckets"),
        *("validate_every", "checkpoint_every", "keep_checkpoints", "keep_best", "load_best"),
        *("early_stopping", "patience", "min_delta", "log_every", "gradient_checkpointing"),
        *("compile", "extra"),
    )
)
# read by `select` too, whose selectors may train
RATES = (
    *("trainer.batch_size", "model.learning_rate", "model.lora_learning_rate_scale"),
    "model.dropout",
)
AFTER_TRAINING = ("evaluation.at_end", "evaluation.base")
SEARCH = ("sweep.objective", "sweep.same_budget")
PERMUTED = "data.permute_summaries"
# of `evaluation`, all but what finds salient sentences
SCORING = tuple(
    f"evaluation.{name}"
    for name in (
        *("bootstrap", "confidence", "bertscore", "bertscore_layer", "nli", "nli_sentences"),
        *("retention", "retention_column", "retention_documents", "summaries"),
    )
)
TRAIN = (*TRAINING, *AFTER_TRAINING)

# settings, and whole sections, that a verb's schema has and the verb never reads
UNREAD = {
    "evaluate": (*TRAIN, *RATES, *SEARCH, PERMUTED, "seed"),
    "circuit": (*TRAIN, *RATES, *SEARCH, PERMUTED, *SCORING, "generation", "seed"),
    "compare": (*TRAIN, *RATES, *SEARCH, PERMUTED, *SCORING, "generation"),
    "select": (*TRAIN, *SEARCH, *SCORING, "generation"),
    "pairs": (*TRAIN, *RATES, *SCORING),
}
# settings to use in their place
INSTEAD = {
    ("evaluate", "trainer.batch_size"): "generation.batch_size",
    ("circuit", "trainer.batch_size"): "circuit.batch_size",
    ("circuit", "generation.batch_size"): "circuit.batch_size",
    ("compare", "trainer.batch_size"): "compare.batch_size",
    ("compare", "generation.batch_size"): "compare.batch_size",
    ("pairs", "trainer.batch_size"): "batch_size",
    ("select", "generation.batch_size"): "selector.batch_size",
    ("compare", "evaluation.retention"): "compare.text=FILE with compare.masks.retention=true",
    ("evaluate", "seed"): "data.seed, which draws the documents",
    ("circuit", "seed"): "data.seed, which draws the documents",
}


def check_effect(verb: str, parsed: Mapping[str, Override], words: Mapping[str, str]) -> None:
    """Raise an error if a typed setting is one that the verb never reads.

    Args:
        verb: the verb.
        parsed: the typed overrides in parsed form, by the name of the setting.
        words: the typed words by the name of the setting, for the message.

    Raises:
        UserError: a setting has no effect.
    """
    for key in parsed:
        if any(key == name or key.startswith(f"{name}.") for name in UNREAD.get(verb, ())):
            instead = INSTEAD.get((verb, key))
            remedy = "" if instead is None else f", or use {instead}"
            word = words.get(key, parsed[key].input_line)
            raise UserError(f"{word}: has no effect on `sumcirc {verb}`; leave it out{remedy}")


def check_pairs(parsed: Mapping[str, Override]) -> None:
    """Raise an error if data, or how to corrupt it, is given along with a file of pairs.

    Args:
        parsed: the typed overrides in parsed form, by the name of the setting.

    Raises:
        UserError: a setting has no effect.
    """
    pairs = parsed.get("pairs")
    if pairs is None or (not pairs.is_sweep_override() and pairs.value() is None):
        return
    idle = ("data", "circuit.corruption", "circuit.documents")
    given = [key for key in parsed if key in idle or key.startswith("data.")]
    if given:
        raise UserError(
            f"pairs={pairs.value()}: replaces the data, so {given[0]} has no effect; leave"
            " one of the two out"
        )
