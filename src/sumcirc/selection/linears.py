"""The linears of every module, and what goes into them on the training documents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from torch import Tensor, nn

from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import architecture
from sumcirc.models.modes import inference
from sumcirc.runtime.progress import counted
from sumcirc.schema import MODULES
from sumcirc.selection.context import SelectionContext

Place = tuple[int, int]  # index of the layer, index of the module in MODULES

Value = TypeVar("Value")


def linears_of(hooked: HookedModel) -> dict[Place, dict[str, nn.Module]]:
    """Return the linears of each module by their full names, layer by layer.

    Args:
        hooked: the model.
    """
    names = architecture(hooked.model.config)
    return {
        (layer, place): {
            name: hooked.model.get_submodule(name) for name in names.linears(layer, module)
        }
        for layer in range(hooked.shape.layers)
        for place, module in enumerate(MODULES)
    }


def of_inputs(
    context: SelectionContext, size: int, value: Callable[[Place, Tensor], Value]
) -> list[dict[Place, Value]]:
    """Return a value of the inputs of each module, for each batch of training documents.

    All linears of a module (such as query, key and value) read the same input. Tokens of prompt,
    document and summary count alike, and padding doesn't count.

    Args:
        context: the base model and its training documents.
        size: number of documents in a batch.
        value: function of a module's place and its inputs on one batch, [tokens, width] in float32.

    Returns:
        The values by module, for each batch.
    """
    hooked = context.hooked
    first = {place: next(iter(some.values())) for place, some in linears_of(hooked).items()}
    batches = context.token_batches(size)
    found: list[dict[Place, Value]] = []

    def seeing(place: Place, mask: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def see(module: nn.Module, given: tuple[Any, ...]) -> None:
            found[-1][place] = value(place, given[0][mask].float())

        return see

    with inference(hooked.model), counted("inputs of linears", len(batches)) as advance:
        for batch in batches:
            found.append({})
            mask = batch.attention_mask.to(hooked.device)
            with ExitStack() as stack:
                for place, linear in first.items():
                    handle = linear.register_forward_pre_hook(seeing(place, mask))
                    stack.callback(handle.remove)
                hooked.backbone(batch.input_ids.to(hooked.device), use_cache=False)
            advance(1)
    return found
