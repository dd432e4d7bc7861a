"""What a change writes along each edge of a small model, done naively at one lambda.

What a unit writes is a finite difference: the attention or MLP of a model with dense weights runs
again on the arguments that it was given, with the unit's weights moved alone. What that does at a
destination is the derivative of a run in which this destination alone reads it
(`tests.circuits.naive_patching`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sumcirc.circuits.attribution.tracing import AttributionPasses
from sumcirc.circuits.graph import Graph
from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.inputs.pair_batches import batches
from sumcirc.circuits.metrics import NegativeLogLikelihood
from sumcirc.data.examples import NONE, TokenExample
from sumcirc.models.activations.attention_weights import AttentionWeights
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.modes import frozen
from tests.circuits.naive_patching import patched_values
from tests.compare.naive_path import Select

STEP = 1e-4


class DenseModel:
    """A model with the dense change scaled by `amount`, and the arguments of its modules."""

    def __init__(self, base: Any, change: Mapping[str, Tensor], amount: float, ids: Tensor) -> None:
        self.model = copy.deepcopy(base)
        self.change = {name: delta.detach() for name, delta in change.items()}
        with torch.no_grad():
            for name, delta in self.change.items():
                self.model.get_parameter(name).add_(amount * delta)
        self.hooked = HookedModel(self.model)
        self._given: dict[nn.Module, tuple[Any, Any]] = {}
        handles = [
            module.register_forward_pre_hook(self._keep, with_kwargs=True)
            for block in self.hooked.blocks
            for module in (block.attention, block.mlp)
        ]
        with torch.no_grad():
            self.model(input_ids=ids, use_cache=False)
        for handle in handles:
            handle.remove()

    def _keep(self, module: nn.Module, arguments: Any, options: Any) -> None:
        self._given[module] = arguments, options

    def written(self, layer: int, kind: str, select: Select) -> Tensor:
        """What moving the selected weights writes, [T, width], by central differences."""
        block = self.hooked.blocks[layer]
        module = block.attention if kind == "attention" else block.mlp
        norm = block.norm_attention_output if kind == "attention" else block.norm_mlp_output
        factor = self.hooked.multipliers.residual

        def run() -> Tensor:
            arguments, options = self._given[module]
            found = module(*arguments, **options)
            return factor * norm(found[0] if isinstance(found, tuple) else found)[0]

        return self._moved(select, run)

    def heads(self, layer: int, select: Select) -> Tensor:
        """The same of each head by itself, for weights that act before the output projection."""
        block, outputs = self.hooked.blocks[layer], []
        module = block.attention

        def run() -> Tensor:
            arguments, options = self._given[module]
            module(*arguments, **options)
            return outputs.pop()

        handle = block.attn_out.register_forward_pre_hook(lambda _, x: outputs.append(x[0][0]))
        moved = self._moved(select, run)  # [T, heads * head width]
        handle.remove()
        each = self.hooked.shape.head_width
        matrix: Any = block.attn_out.weight
        parts = zip(moved.split(each, -1), matrix.T.split(each), strict=True)
        return self.hooked.multipliers.residual * torch.stack([one @ two for one, two in parts])

    def _moved(self, select: Select, run: Any) -> Tensor:
        ends = []
        with torch.no_grad():
            for sign in (1, -1):
                old = {}
                for name, delta in self.change.items():
                    parameter = self.model.get_parameter(name)
                    old[name] = parameter.detach().clone()
                    parameter.add_(sign * STEP * select(name, delta) * delta)
                ends.append(run())
                for name, value in old.items():
                    self.model.get_parameter(name).copy_(value)
        return (ends[0] - ends[1]) / (2 * STEP)

    def read(self, item: TokenExample, written: Tensor) -> NDArray[np.float64]:
        """What [senders, T, width] do at every destination, [senders, destinations]."""
        ids = torch.from_numpy(item.ids)[None]
        pairs = TokenPairs.from_tensors(ids, ids, torch.ones_like(ids).bool(), [item.id])
        good = torch.from_numpy(item.good)[None]
        metric = NegativeLogLikelihood(good != NONE, good)
        graph = Graph(self.hooked.shape)
        passes = AttributionPasses(self.hooked, graph, metric, pairs)
        count, columns = len(written), len(graph.destinations)
        with frozen(self.model):
            weights = AttentionWeights(self.hooked, False, torch.float64)
            (batch,) = batches(self.hooked, pairs, [torch.tensor([0])])
            size = torch.zeros(count * columns, dtype=torch.float64, requires_grad=True)
            added = size[:, None, None] * written.repeat_interleave(columns, 0)
            where = torch.arange(columns).repeat(count)
            values = patched_values(passes, weights, batch, where, added, None)
            (found,) = torch.autograd.grad(-values.sum(), size)
        return found.view(count, columns).numpy()
