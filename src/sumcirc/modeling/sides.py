"""Two or more models of one shape, of which one is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sumcirc.errors import UserError
from sumcirc.modeling.anatomy import anatomy, shape
from sumcirc.modeling.loading import check_model, is_adapter, load_tokenizer, read_model_config
from sumcirc.modeling.restoring import load_weights
from sumcirc.schema import ModelConfig
from sumcirc.tracking.checkpoint_source import model_of, weights_of


@dataclass(frozen=True)
class Side:
    """One of the models.

    Attributes:
        name: short, for tables and files.
        model: the model, or what an adapter is on.
        weights: a run's or an adapter's folder; None where the model's own.
    """

    name: str
    model: ModelConfig
    weights: Path | None

    @property
    def adapted(self) -> bool:
        """Whether it is an adapter on a model."""
        return self.weights is not None and is_adapter(self.weights)

    def is_on(self, other: Side) -> bool:
        """Whether it is an adapter on the other, so that one module is both."""
        same = (self.model.path, self.model.revision) == (other.model.path, other.model.revision)
        return self.adapted and other.weights is None and same

    @classmethod
    def of(cls, checkpoint: str, setting: str) -> Side:
        """From a run directory, an adapter's folder, a model's folder or a hub id.

        Raises:
            UserError: a run did not finish or is none of training; an adapter names no base.
        """
        found = model_of(checkpoint, setting)
        name = Path(checkpoint).expanduser().name or checkpoint
        return cls(name, ModelConfig(**found), weights_of(checkpoint))


def check_sides(before: Side, afters: Sequence[Side]) -> None:
    """Refuse models that can't be compared part by part; no weights are read.

    Raises:
        UserError: another architecture, size or vocabulary, or one can't be loaded.
    """
    check_model(before.model)
    config = read_model_config(before.model)
    anatomy(config)
    words = load_tokenizer(before.model).get_vocab()
    for side in afters:
        check_model(side.model)
        other = read_model_config(side.model)
        anatomy(other)
        if other.model_type != config.model_type:
            raise UserError(
                f"after={side.name}: is a `{other.model_type}`, before a `{config.model_type}`;"
                " compare models of one architecture"
            )
        sizes = zip(vars(shape(config)).items(), vars(shape(other)).values(), strict=True)
        differing = [
            f"{name} {ours} and {theirs}" for (name, ours), theirs in sizes if ours != theirs
        ]
        if differing:
            raise UserError(
                f"after={side.name}: differs from before in {'; '.join(differing)} (before first);"
                " compare a model with what it was trained from"
            )
        if load_tokenizer(side.model).get_vocab() != words:
            raise UserError(
                f"after={side.name}: has another vocabulary than before, so they don't read the"
                " same tokens; compare models of one tokenizer"
            )


class Models:
    """Gives one side after another, in evaluation; what was there before is let go.

    An adapter and its base are one module in memory.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = device
        self._loaded: tuple[Side, Any] | None = None

    @contextmanager
    def use(self, side: Side) -> Iterator[Any]:
        """The model of a side; one that is to be used after it may be loaded already."""
        if self._loaded is not None and side.adapted is False and self._loaded[0].is_on(side):
            with self._loaded[1].disable_adapter():
                yield self._loaded[1]
            return
        if self._loaded is None or self._loaded[0] != side:
            if self._loaded is not None:
                # room for the next one, though whoever used this one may still have its name
                self._loaded[1].to("meta")
                self._loaded = None
            model: Any = load_weights(side.model, side.weights or side.model.path)
            self._loaded = side, model.to(self._device).eval()
        yield self._loaded[1]
