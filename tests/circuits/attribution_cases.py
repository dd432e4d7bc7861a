"""The reference's models and scores, and a slow second opinion on the same definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, layer_norm
from transformers import AutoConfig, AutoModelForCausalLM

from sumcirc.circuits.inputs.example_pairs import TokenPairs
from sumcirc.circuits.metrics import Divergence, LogitDifference, Metric

FOLDER = Path(__file__).parents[1] / "fixtures" / "eap_ig"


def reference_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """`small_gpt2` or `small_llama`, in training mode with parameters that ask for gradients."""
    config = json.loads((FOLDER / f"{name}_config.json").read_text())
    for key in ("transformers_version", "dtype", "architectures"):
        config.pop(key, None)
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config.pop("model_type"), **config)
        )
    model = model.to(dtype)
    weights = load_file(FOLDER / f"{name}.safetensors")
    left = model.load_state_dict({k: v.to(dtype) for k, v in weights.items()}, strict=False)
    assert set(left.missing_keys) <= {"lm_head.weight"}
    return model


def reference_scores(name: str) -> dict[str, Any]:
    with np.load(FOLDER / f"{name}_reference.npz") as stored:
        return {key: stored[key] for key in stored.files}


def reference_pairs(stored: dict[str, Any]) -> TokenPairs:
    ids = [f"item-{i}" for i in range(len(stored["clean_ids"]))]
    arrays = ("clean_ids", "corrupted_ids", "attention_mask")
    return TokenPairs.from_tensors(*(torch.from_numpy(stored[name]) for name in arrays), ids)


def reference_metric(stored: dict[str, Any], name: str) -> Metric:
    pairs, labels = reference_pairs(stored), torch.from_numpy(stored["labels"])
    if name == "kl_all":
        return Divergence(pairs.attention_mask)
    return LogitDifference(pairs.clean.last, labels[:, 0], labels[:, 1])


class Oracle:
    """GPT-2 in which every destination reads its own copy of the residual stream.

    Written from the definitions alone: autograd gives the gradient at each copy.
    """

    def __init__(self, model: Any) -> None:
        self.state = {k.removeprefix("transformer."): v for k, v in model.state_dict().items()}
        self.layers, self.heads = model.config.n_layer, model.config.n_head

    def run(
        self, embeddings: Tensor, instead: dict[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Of one item [T, width]: outputs of sources, inputs of destinations, logits."""
        w, instead = self.state, instead or {}
        length, width = embeddings.shape
        each = width // self.heads
        written: dict[str, Tensor] = {"input": instead.get("input", embeddings)}
        read: dict[str, Tensor] = {}

        def copy(name: str, stream: Tensor) -> Tensor:
            read[name] = stream.clone()
            return read[name]

        def normed(stream: Tensor, name: str) -> Tensor:
            return layer_norm(stream, (width,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

        stream = (written["input"] + w["wpe.weight"][:length]).requires_grad_()
        causal = torch.ones(length, length).tril().bool()
        for layer in range(self.layers):
            here, total = f"h.{layer}", 0.0
            for head in range(self.heads):
                part = {}
                for i, letter in enumerate("qkv"):
                    columns = slice(i * width + head * each, i * width + (head + 1) * each)
                    x = normed(copy(f"a{layer}.h{head}<{letter}>", stream), f"{here}.ln_1")
                    matrix = w[f"{here}.attn.c_attn.weight"][:, columns]
                    part[letter] = x @ matrix + w[f"{here}.attn.c_attn.bias"][columns]
                weights = part["q"] @ part["k"].T / each**0.5
                pattern = weights.masked_fill(~causal, -torch.inf).softmax(-1)
                rows = slice(head * each, (head + 1) * each)
                name = f"a{layer}.h{head}"
                found = pattern @ part["v"] @ w[f"{here}.attn.c_proj.weight"][rows]
                written[name] = instead.get(name, found)
                total = total + written[name]
            after = stream + total + w[f"{here}.attn.c_proj.bias"]
            x = normed(copy(f"m{layer}", after), f"{here}.ln_2")
            x = x @ w[f"{here}.mlp.c_fc.weight"] + w[f"{here}.mlp.c_fc.bias"]
            x = gelu(x, approximate="tanh") @ w[f"{here}.mlp.c_proj.weight"]
            written[f"m{layer}"] = instead.get(f"m{layer}", x + w[f"{here}.mlp.c_proj.bias"])
            stream = after + written[f"m{layer}"]
        logits = normed(copy("logits", stream), "ln_f") @ w["wte.weight"].T
        return written, read, logits

    def scores(self, pairs: TokenPairs, metric: Metric, item: int, method: str) -> Tensor:
        """[sources, destinations] of one item."""
        real = pairs.attention_mask[item]
        table = self.state["wte.weight"]
        clean, corrupted = (
            table[ids[item][real]] for ids in (pairs.clean.input_ids, pairs.corrupted.input_ids)
        )
        before, _, logits = self.run(clean)
        after, _, _ = self.run(corrupted)
        where = metric.positions[item][real]
        reference = metric.reference(logits[where])
        runs: list[tuple[Tensor, dict[str, Tensor]]] = []
        if method == "clean-corrupted":
            runs = [(clean, {}), (corrupted, {})]
        else:
            groups = [["input"]]
            for layer in range(self.layers):
                groups += [[f"a{layer}.h{h}" for h in range(self.heads)], [f"m{layer}"]]
            for group in groups:
                for k in range(1, 4):
                    mixed = {n: (k * before[n] + (3 - k) * after[n]).detach() / 3 for n in group}
                    runs.append((clean, mixed))
        total: dict[str, Tensor] = {}
        for embeddings, instead in runs:
            _, read, logits = self.run(embeddings, instead)
            loss = metric.values(logits[where], torch.tensor([item]), reference)
            found = torch.autograd.grad(
                loss.sum(), list(read.values()), allow_unused=True, materialize_grads=True
            )
            for name, gradient in zip(read, found, strict=True):
                total[name] = total.get(name, 0) + gradient / len(runs)
        written = torch.stack([(after[n] - before[n]).detach() for n in before])
        order = [
            f"a{layer}.h{h}<{x}>"
            for layer in range(self.layers)
            for x in "qkv"
            for h in range(self.heads)
        ]
        order = [
            name
            for layer in range(self.layers)
            for name in [*order[3 * self.heads * layer : 3 * self.heads * (layer + 1)], f"m{layer}"]
        ] + ["logits"]
        return torch.einsum("std,vtd->sv", written, torch.stack([total[n] for n in order]))


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())
