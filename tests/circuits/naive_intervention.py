"""Patched runs written out: by hand for GPT-2, by definition for every family; and stored ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from sumcirc.circuits.graph import Graph
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import ARCHITECTURES
from tests.support.small_models import VOCABULARY, in_float64, share_of, small_model, writing

FIXTURES = Path(__file__).parents[1] / "fixtures" / "eap_ig"


MODELS = [(family, {}) for family in ARCHITECTURES] + [
    ("gpt_neox", {"use_parallel_residual": False})
]


def tolerance(family: str) -> float:
    """Hugging Face keeps rotary embeddings and RMSNorm in float32."""
    return 1e-12 if family == "gpt2" else 2e-6


def shaken(family: str, **changes: Any) -> Any:
    """Random biases and norms as well, so that a term left out shows."""
    model = in_float64(small_model(family, **changes))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data += 0.3 * noise
    return model


def documents(padding: str = "right") -> tuple[Tensor, Tensor, Tensor]:
    """Clean and corrupted tokens and the mask of three documents."""
    generator = torch.Generator().manual_seed(2)
    clean, corrupted = torch.randint(0, VOCABULARY, (2, 3, 9), generator=generator)
    mask = torch.ones(3, 9, dtype=torch.long)
    for document, pads in enumerate((0, 3, 5)):
        hidden = slice(9 - pads, 9) if padding == "right" else slice(0, pads)
        mask[document, hidden] = 0
    return clean, corrupted, mask


def random_circuit(graph: Graph, density: float, seed: int = 0) -> NDArray[np.bool_]:
    draws = np.random.default_rng(seed).random(graph.exists.shape)
    return (draws < density) & graph.exists


def stored(name: str) -> tuple[Any, Any]:
    config = AutoConfig.for_model(**json.loads((FIXTURES / f"{name}_config.json").read_text()))
    model = AutoModelForCausalLM.from_config(config).double().eval()
    model.load_state_dict(load_file(FIXTURES / f"{name}.safetensors"), strict=False)
    model.tie_weights()
    return model, np.load(FIXTURES / f"{name}_reference.npz")


def reference_inputs(reference: Any) -> tuple[Tensor, Tensor, Tensor]:
    ids = (torch.from_numpy(reference[name]) for name in ("clean_ids", "corrupted_ids"))
    return *ids, torch.from_numpy(reference["attention_mask"])  # type: ignore[return-value]


def per_item(logits: Tensor, clean: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The reference's three metrics; the logit difference is positive."""
    rows, last = torch.arange(len(logits)), mask.sum(1) - 1
    at_end = logits[rows, last].gather(1, labels)
    reference, own = clean.log_softmax(-1), logits.log_softmax(-1)
    kl = (reference.exp() * (reference - own)).sum(-1)
    return {
        "logit_diff": at_end[:, 0] - at_end[:, 1],
        "kl_last": kl[rows, last],
        "kl_all": (kl * mask).sum(1) / mask.sum(1),
    }


def gpt2_by_hand(
    model: Any, ids: Tensor, mask: Tensor, kept: NDArray[np.bool_] | Tensor, patched: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits, and what every source wrote [sources, documents, positions, width].

    Args:
        kept: True at kept edges, or a share of each from 0 to 1, which may be differentiated.
        patched: what a cut edge carries, of the same shape (or one that broadcasts).
    """
    body, heads = model.transformer, model.config.n_head
    width = model.config.n_embd // heads
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    constant = body.wpe(positions)
    sources = [body.wte(ids)]
    causal = torch.ones(ids.shape[1], ids.shape[1]).tril().bool() & mask[:, None, :].bool()
    causal = causal | torch.eye(ids.shape[1]).bool()  # a pad sees itself
    shares = torch.as_tensor(kept, dtype=constant.dtype)
    column = 0

    def stream() -> Tensor:
        nonlocal column
        total = constant.clone()
        for row, own in enumerate(sources):
            share = shares[row, column]
            total = total + share * own + (1 - share) * patched[row]
        column += 1
        return total

    for block in body.h:
        weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
        made = []
        for letter in range(3):
            slices = []
            for head in range(heads):
                part = slice((letter * heads + head) * width, (letter * heads + head + 1) * width)
                slices.append(block.ln_1(stream()) @ weight[:, part] + bias[part])
            made.append(slices)
        written = []
        for head in range(heads):
            q, k, v = (made[letter][head] for letter in range(3))
            scores = (q @ k.mT / width**0.5).masked_fill(~causal, -torch.inf)
            output = block.attn.c_proj.weight[head * width : (head + 1) * width]
            written.append(scores.softmax(-1) @ v @ output)
        sources += written
        constant = constant + block.attn.c_proj.bias
        sources.append(block.mlp(block.ln_2(stream())))
    return model.lm_head(body.ln_f(stream())), torch.stack(sources)


@contextmanager
def patched_by_definition(
    model: Any, graph: Graph, kept: NDArray[np.bool_], patched: list[Tensor], written: list[Tensor]
) -> Iterator[None]:
    """Every head's query, key and value is cut out of the whole projection of its own stream."""
    hooked = HookedModel(model)
    size = hooked.shape
    at: dict[str, Any] = {}
    busy: list[bool] = []  # modules called in here aren't patched again

    def unless_busy(function: Any) -> Any:
        def guarded(*arguments: Any) -> Any:
            if busy:
                return None
            busy.append(True)
            try:
                return function(*arguments)
            finally:
                busy.pop()

        return guarded

    def stream(column: int, base: Tensor) -> Tensor:
        total = base - sum(written[: int(graph.exists[:, column].sum())])
        for row in np.flatnonzero(graph.exists[:, column]):
            total = total + (written[row] if kept[row, column] else patched[row])
        return total

    def see_base(module: Any, inputs: Any, options: Any) -> None:
        at["base"] = inputs[0] if inputs else options["hidden_states"]

    def project(layer: int, number: int) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> Tensor:
            block = hooked.blocks[layer]
            letters = [number] if len(block.qkv) == 3 else [0, 1, 2]
            made = []
            for letter in letters:
                columns = [graph.query_columns, graph.key_columns, graph.value_columns][letter]
                places = range(*columns(layer).indices(10**6))
                for place, column in enumerate(places):
                    whole = module(block.norm_attention(stream(column, at["base"])))
                    index = place
                    if len(block.qkv) == 3:
                        index = place * (whole.shape[-1] // size.head_width) // len(places)
                    elif model.config.model_type == "gpt_neox":
                        index = place * 3 + letter
                    else:
                        shared = size.key_value_heads
                        first = [0, size.heads, size.heads + shared][letter]
                        index = first + place * (shared if letter else size.heads) // len(places)
                    made.append(whole.unflatten(-1, (-1, size.head_width))[..., index, :])
            if model.config.model_type == "gpt_neox":
                made = [
                    made[letter * size.heads + h] for h in range(size.heads) for letter in range(3)
                ]
            return torch.cat(made, -1)

        return unless_busy(hook)

    def see_heads(layer: int) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            bias = module(torch.zeros_like(inputs[0]))
            whole = module(inputs[0])
            for head in range(size.heads):
                alone = torch.zeros_like(inputs[0])
                part = slice(head * size.head_width, (head + 1) * size.head_width)
                alone[..., part] = inputs[0][..., part]
                share = share_of(model, layer, module(alone) - bias, whole)
                written.append(share * getattr(model.config, "residual_multiplier", 1.0))

        return hook

    def replace(column: int) -> Any:
        return unless_busy(lambda module, inputs: (stream(column, inputs[0]),))

    def see_output(factor: str) -> Any:
        times = getattr(model.config, factor, 1.0)
        return lambda module, inputs, output: written.append(output * times)

    handles = [hooked.embedding.register_forward_hook(see_output("embedding_multiplier"))]
    for layer, block in enumerate(hooked.blocks):
        first, second, last = block.norm_attention, block.norm_mlp, writing(block)[1]
        if model.config.model_type == "olmo2":
            first, second = block.attention, block.mlp
        handles += [
            first.register_forward_pre_hook(unless_busy(see_base), with_kwargs=True),
            *(m.register_forward_hook(project(layer, i)) for i, m in enumerate(block.qkv)),
            block.attn_out.register_forward_pre_hook(unless_busy(see_heads(layer))),
            second.register_forward_pre_hook(replace(graph.mlp_destination(layer))),
            last.register_forward_hook(see_output("residual_multiplier")),
        ]
    handles.append(
        hooked.final_norm.register_forward_pre_hook(replace(len(graph.destinations) - 1))
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_plain(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return model(ids, attention_mask=mask, position_ids=positions).logits
