"""Stored activations of one model on the items, to be patched into another model.

The models need not be in memory at the same time: the donor's activations are on disk, one file per
batch, and are read layer by layer. Keys and values are stored for all positions; other activations
only from a batch's `start` on, the first position that is patched or read.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sumcirc.compare.items.item_set import ItemBatch, ItemSet
from sumcirc.models.activations.activation_cache import ActivationCache, ActivationKey, HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.modes import inference


def start_of(batch: ItemBatch, positions: list[Tensor]) -> int:
    """Return the first position of a batch that is patched or read.

    Args:
        batch: the batch, with B items of T positions.
        positions: masks [B, T] of patched positions; a position is patched if it is in any of the
            masks.
    """
    wanted = batch.reads.clone()
    for one in positions:
        wanted |= one
    return int(wanted.any(0).nonzero()[0])


def compute(hooked: HookedModel, batch: ItemBatch, start: int) -> tuple[ActivationCache, Tensor]:
    """Run a model on a batch, and return the activations that can be patched, and the metric.

    Attention is computed by `AttentionInputs.outputs`, as in passes with patching.

    Args:
        hooked: the model.
        batch: the batch, with B items of T positions.
        start: index of the first of the R = T - start positions whose activations are kept.

    Returns:
        The activations and the metric [B]. The activations are, for each layer, `query`
        [B, heads, R, head width], `key` and `value` [B, key/value heads, T, head width],
        `head_outputs` [B, R, heads * head width] and the other points of
        `HookedModel.head_points`, `attention_output` and `mlp_output` [B, R, width], and
        `residual` [B, R, width] before each layer and after the last one.
    """
    stream = (HookPoint.RESIDUAL, HookPoint.ATTENTION_OUTPUT, HookPoint.MLP_OUTPUT)
    every = hooked.every
    with (
        inference(hooked.model),
        hooked.hooks((key, AttentionInputs.outputs) for key in every(HookPoint.ATTENTION)),
        hooked.caching(every(HookPoint.QUERY), lambda q: q[:, :, start:].contiguous()) as queries,
        hooked.caching(every(HookPoint.KEY, HookPoint.VALUE), Tensor.contiguous) as keys,
        hooked.caching(
            every(*stream, *hooked.head_points), lambda values: values[:, start:].contiguous()
        ) as found,
    ):
        # padding is last: causal attention is enough
        metric = batch.read(hooked, hooked.hidden(None, input_ids=batch.input_ids))
    found.update(queries | keys)
    return found, metric


class Donor:
    """The donor model's activations, stored in a folder, and the weights that patching needs.

    Args:
        folder: an empty folder, to which `record` writes.

    Attributes:
        metric: for each batch, the donor's metric of the batch's items, [B].
        unembedding: the donor's final norm and unembedding; None if they can't be patched.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metric: list[Tensor] = []
        self.unembedding: tuple[nn.Module, nn.Module] | None = None

    @classmethod
    def record(
        cls,
        hooked: HookedModel,
        items: ItemSet,
        size: int,
        positions: list[str],
        folder: Path,
        unembedding: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Donor:
        """Run a model on all items, and return a donor with its activations.

        Args:
            hooked: the model.
            items: the items on which it is run.
            size: number of items in a batch.
            positions: names of all sets of positions at which components may be patched, see
                `TokenBatch.at`.
            folder: an empty folder for the files.
            unembedding: whether to keep a copy of the model's final norm and unembedding.
            progress: called with the number of newly completed items.
        """
        donor = cls(folder)
        for layer in range(hooked.shape.layers):
            donor._save(f"output-{layer}", {"weight": hooked.attention_output(layer).weight})
        if unembedding:
            donor.unembedding = (
                deepcopy(hooked.final_norm).cpu(),
                deepcopy(hooked.unembedding).cpu(),
            )
        for number, batch in enumerate(items.batches(size, hooked.device)):
            start = start_of(batch, [batch.at(name) for name in positions])
            states, metric = compute(hooked, batch, start)
            donor.metric.append(metric.cpu())
            donor._save(f"batch-{number}", {_name(key): value for key, value in states.items()})
            if progress is not None:
                progress(len(batch))
        return donor

    def output_weight(self, layer: int, device: torch.device) -> Tensor:
        """Return the donor's map from heads to the stream, [heads, head width, width].

        Args:
            layer: index of the layer.
            device: device on which the result is placed.
        """
        file = self.folder / f"output-{layer}.safetensors"
        with safe_open(file, framework="pt", device=str(device)) as tensors:
            return tensors.get_tensor("weight")

    def batch(self, number: int, device: torch.device) -> StoredActivations:
        """Return the donor's activations on a batch; each is read from disk when it is accessed.

        Args:
            number: index of the batch among those of `ItemSet.batches`.
            device: device on which the activations are placed.
        """
        return StoredActivations(self.folder / f"batch-{number}.safetensors", device)

    def _save(self, name: str, tensors: dict[str, Tensor]) -> None:
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(plain, self.folder / f"{name}.safetensors")


def _name(key: ActivationKey) -> str:
    return f"{key[0]}.{key[1]}"


class StoredActivations:
    """Activations in a file, by hook point and layer; each is read from disk when it is accessed.

    Args:
        file: a file that `Donor` has written.
        device: device on which the activations are placed.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        self._file: Any = safe_open(file, framework="pt")
        self._device = device

    def __getitem__(self, key: ActivationKey) -> Tensor:
        return self._file.get_tensor(_name(key)).to(self._device)
