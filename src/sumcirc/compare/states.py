"""What one model computes on the items, kept so that parts of it can be moved into another model.

The models need not both be in memory: the donor's states lie on disk, a file a batch, and are read
layer by layer. Only positions from a batch's `start` on are kept, the first that is moved or read,
but keys and values of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sumcirc.circuits.residual import Hook, hooked
from sumcirc.compare.items import Batch, Items
from sumcirc.modeling.modes import inference
from sumcirc.modeling.parts import Parts
from sumcirc.probes.observation import attention_replaced

States = Mapping[str, Tensor]  # names with the layer, such as `key.3`; see `compute`


def start_of(batch: Batch, positions: list[Tensor]) -> int:
    """The first position of a batch that is moved or read.

    Args:
        positions: [B, T] each.
    """
    wanted = batch.reads.clone()
    for one in positions:
        wanted |= one
    return int(wanted.any(0).nonzero()[0])


def compute(parts: Parts, batch: Batch, start: int) -> dict[str, Tensor]:
    """One pass over a batch, R = T - start positions of it kept.

    Returns:
        For each layer l `query.l` [B, heads, R, head width], `key.l` and `value.l` [B, key/value
        heads, T, head width], positions encoded; `heads.l` [B, R, heads, head width], `attention.l`
        and `mlp.l` [B, R, width], what they write; `residual.l` [B, R, width] for l = 0 to layers;
        `metric` [B].
    """
    found: dict[str, Tensor] = {}

    def attend(
        layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        heads = causal_attention(query, key, value, scaling, window)
        found[f"query.{layer}"] = query[:, :, start:]
        found[f"key.{layer}"], found[f"value.{layer}"] = key, value
        found[f"heads.{layer}"] = heads[:, start:]
        return heads

    def keep(name: str) -> Callable[[Tensor], None]:
        def see(values: Tensor) -> None:
            found[name] = values[:, start:]

        return see

    hooks: list[Hook] = []
    for layer, block in enumerate(parts.blocks):
        hooks += [
            (block.whole, "input", keep(f"residual.{layer}")),
            (block.attn_out, "output", keep(f"attention.{layer}")),
            (block.mlp, "output", keep(f"mlp.{layer}")),
        ]
    hooks.append((parts.final_norm, "input", keep(f"residual.{parts.shape.layers}")))
    with inference(parts.model), hooked(hooks), attention_replaced(parts, attend):
        normed = parts.hidden(
            None, input_ids=batch.ids
        )  # pads are last: causal attention is enough
        found["metric"] = batch.read(parts, normed)
    return {name: values.contiguous() for name, values in found.items()}


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None = None
) -> Tensor:
    """Heads' outputs [B, R, heads, head width] of the last R of T positions.

    Args:
        query: [B, heads, R, head width].
        key, value: [B, key/value heads, T, head width].
        window: how many keys a position sees at most.
    """
    rows, length = query.shape[2], key.shape[2]
    mask = None
    whole = rows == length and (window is None or window >= length)
    if not whole:
        at = torch.arange(length - rows, length, device=query.device)[:, None]
        keys = torch.arange(length, device=query.device)
        mask = (keys <= at) & (keys > at - (window or math.inf))
    found = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=whole,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found.transpose(1, 2)


class Donor:
    """States of a model in a folder, and of its weights what moved parts need.

    Args:
        folder: empty; `record` fills it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metric: list[Tensor] = []
        self.readout: tuple[nn.Module, nn.Module] | None = None

    @classmethod
    def record(
        cls,
        parts: Parts,
        items: Items,
        size: int,
        positions: list[str],
        folder: Path,
        readout: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Donor:
        """Run a model over all items.

        Args:
            size: items in a batch.
            positions: all that parts may be moved at, see `Batch.at`.
            readout: keep a copy of its final norm and unembedding.
        """
        donor = cls(folder)
        for layer in range(parts.shape.layers):
            donor._save(f"output-{layer}", {"weight": parts.attention_output(layer).weight})
        if readout:
            donor.readout = (deepcopy(parts.final_norm).cpu(), deepcopy(parts.unembedding).cpu())
        for number, batch in enumerate(items.batches(size, _device(parts))):
            start = start_of(batch, [batch.at(name) for name in positions])
            states = compute(parts, batch, start)
            donor.metric.append(states["metric"].cpu())
            donor._save(f"batch-{number}", states)
            if progress is not None:
                progress(len(batch))
        return donor

    def output_weight(self, layer: int, like: Tensor) -> Tensor:
        """Its output projection by head, [heads, head width, width]."""
        return _Stored(self.folder / f"output-{layer}.safetensors", like)["weight"]

    def batch(self, number: int, like: Tensor) -> States:
        """Its states on a batch, on the device of `like` and read when asked for."""
        return _Stored(self.folder / f"batch-{number}.safetensors", like)

    def _save(self, name: str, tensors: dict[str, Tensor]) -> None:
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(plain, self.folder / f"{name}.safetensors")


class _Stored(Mapping[str, Tensor]):
    """Tensors of a file, each read when it is asked for."""

    def __init__(self, file: Path, like: Tensor) -> None:
        self._file: Any = safe_open(file, framework="pt")
        self._like = like

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name).to(self._like.device)

    def __iter__(self) -> Any:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())


def _device(parts: Parts) -> torch.device:
    return parts.unembedding.weight.device  # type: ignore[return-value]
