"""Two or more models of the same shape, with one in memory at a time.

An adapter and its base can share one module, whose adapter is switched off for the base. Whether
that gives the base is measured, since for many adapters it doesn't: each model's logits on a text
are stored when it is loaded, and a model that is to replace another has to give the same logits, up
to rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import architecture, shape
from sumcirc.models.loading import holds_tokenizer, read_model_config
from sumcirc.models.model_reference import ModelReference
from sumcirc.models.modes import inference
from sumcirc.models.restoring import check_reference, load_reference, load_tokenizer_of, release

log = logging.getLogger(__name__)

WITNESSED = 32  # positions whose logits are stored, evenly spaced over the text
SAMPLE = "In 2019, the mayor of a town said: \u201cIt's 3.5 km.\u201d\nTL;DR: "


def check_pair(
    before: ModelReference, afters: Sequence[ModelReference], first: str = "before"
) -> None:
    """Raise an error if models can't be compared component by component; no weights are read.

    Args:
        before: the model with which the others are compared.
        afters: the other models.
        first: the word for `before` in messages.

    Raises:
        UserError: the models' architectures, sizes or vocabularies differ, or a model can't be
            loaded.
    """
    check_reference(before, analysed=True)
    config = read_model_config(before.whole)
    architecture(config)
    tokenizer = load_tokenizer_of(before)
    for ref in (_with_tokenizer(ref, before) for ref in afters):
        check_reference(ref, analysed=True)
        given = f"{ref.setting}={ref.name}"
        other = read_model_config(ref.whole)
        architecture(other)
        if other.model_type != config.model_type:
            raise UserError(
                f"{given}: is a `{other.model_type}`, {first} a `{config.model_type}`;"
                " compare models of one architecture"
            )
        sizes = zip(vars(shape(config)).items(), vars(shape(other)).values(), strict=True)
        differing = [
            f"{name} {ours} and {theirs}" for (name, ours), theirs in sizes if ours != theirs
        ]
        if differing:
            raise UserError(
                f"{given}: differs from {first} in {'; '.join(differing)}"
                f" ({first} first); compare a model with what it was trained from"
            )
        theirs = load_tokenizer_of(ref)
        if theirs.get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"{given}: has another vocabulary than {first}, so they don't read the"
                " same tokens; compare models of one tokenizer"
            )
        if (theirs(SAMPLE).input_ids, theirs.eos_token_id) != (
            tokenizer(SAMPLE).input_ids,
            tokenizer.eos_token_id,
        ):
            log.warning(
                "%s: its tokenizer encodes or ends a text differently (end %r, here %r); all models"
                " read the tokens of model.tokenizer, so set that to the right one",
                ref.given,
                theirs.eos_token,
                tokenizer.eos_token,
            )


def _with_tokenizer(ref: ModelReference, before: ModelReference) -> ModelReference:
    """Give a model without a tokenizer of its own the tokenizer of `before`."""
    folder = Path(ref.model.path).expanduser()
    if ref.model.tokenizer is not None or not folder.is_dir() or holds_tokenizer(folder):
        return ref
    own = before.model.tokenizer or before.model.path
    return replace(ref, model=replace(ref.model, tokenizer=own))


class Models:
    """Loads models on request, keeping only the last one in memory.

    If an adapter is loaded and its base is requested, the loaded model is used with the adapter
    switched off, provided that it then gives the base's logits. Otherwise the base is loaded.

    Args:
        device: device on which the models run.
        ids: token ids of a text on which logits are compared. It should be the longest text that
            the models will read, since attention windows matter only in long texts.
    """

    def __init__(self, device: torch.device | str, ids: Sequence[int]) -> None:
        self._device = device
        self._ids = torch.tensor([list(ids)])
        self._loaded: tuple[ModelReference, Any] | None = None
        self._logits: dict[str, Tensor] = {}  # by name
        self._told: set[str] = set()

    @contextmanager
    def use(self, ref: ModelReference) -> Iterator[Any]:
        """Yield a model in evaluation mode for a `with` block, reusing the loaded one if possible.

        Args:
            ref: reference to the model.

        Raises:
            UserError: the model can't be loaded, or its logits differ from those that it gave when
                it was loaded earlier.
        """
        loaded = self._loaded
        if loaded is not None and loaded[0].is_on(ref) and self._is_with_adapter_off(ref):
            with loaded[1].disable_adapter():
                yield loaded[1]
            return
        if loaded is None or loaded[0] != ref:
            if loaded is not None:
                # free its memory, even if the previous user still holds a reference
                release(loaded[1])
                self._loaded = None
            model: Any = load_reference(ref)
            self._loaded = ref, model.to(self._device).eval()
            found = logits_of(model, self._ids)
            if not same_logits(self._logits.setdefault(ref.name, found), found):
                raise UserError(
                    f"{ref.given}: loading it twice gives different models, so it can't be"
                    " analysed; merge the adapter into its base where it was trained"
                )
        yield self._loaded[1]  # type: ignore[index]

    def stands_for(self, ref: ModelReference, model: Any) -> bool:
        """Return whether a model gives the same logits as another one gave when it was loaded.

        Args:
            ref: reference to the other model, which `use` has loaded before.
            model: the model in its current state.
        """
        return same_logits(self._logits[ref.name], logits_of(model, self._ids))

    def _is_with_adapter_off(self, ref: ModelReference) -> bool:
        assert self._loaded is not None
        adapter, model = self._loaded
        if ref.name not in self._logits:
            return False
        try:
            with model.disable_adapter():
                same = self.stands_for(ref, model)
        except ValueError:  # PEFT has no layer that it could switch off
            same = False
        if not same and adapter.name not in self._told:
            self._told.add(adapter.name)
            log.warning(
                "%s: with its adapter switched off it is not %s, which is loaded separately",
                adapter.given,
                ref.name,
            )
        return same


def logits_of(model: Any, ids: Tensor) -> Tensor:
    """Return a model's logits on a text, computed from its blocks, final norm and unembedding.

    Args:
        model: a model with or without adapters.
        ids: [1, length] token ids of the text.

    Returns:
        [positions, vocabulary] on the CPU, at up to 32 evenly spaced positions of the text.

    Raises:
        UserError: the model's own forward pass gives different logits, which means that it contains
            modules that the analyses don't know.
    """
    hooked = HookedModel(model)
    ids = ids.to(hooked.device)
    at = torch.linspace(0, ids.shape[1] - 1, min(WITNESSED, ids.shape[1])).round().long()
    with inference(model):
        found = hooked.unembedding(hooked.hidden(None, input_ids=ids)[0, at]).cpu()
        own = model(input_ids=ids, use_cache=False, logits_to_keep=at).logits[0].cpu()
    if not same_logits(own, found):
        raise UserError(
            "model: its own logits differ from those of its blocks, final norm and unembedding, so"
            " it computes something that the analyses don't cover; `sumcirc evaluate` supports it"
        )
    return found


def same_logits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of logits have the same shape and are equal up to rounding.

    Args:
        one, other: the logits, of the same dtype.
    """
    if one.shape != other.shape:
        return False
    allowed = 32 * torch.finfo(one.dtype).eps * float(one.abs().max())
    return float((one.double() - other.double()).abs().max()) <= allowed
