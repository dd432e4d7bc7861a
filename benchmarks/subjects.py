"""The models that benchmarks run: with random weights, or from a local folder."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from sumcirc.models.loading import load_model
from sumcirc.schema import ModelConfig


@dataclass(frozen=True)
class Shape:
    """Size of a GPT-2 model with random weights; there is no dropout, so steps can be compared."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int

    def save(self, folder: str, seed: int) -> None:
        """Write a model of this shape, the same for the same seed, to be loaded as any other."""
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(
            GPT2Config(
                n_layer=self.layers,
                n_embd=self.width,
                n_head=self.heads,
                vocab_size=self.vocabulary,
                n_positions=self.context,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        model.save_pretrained(folder)

    @contextmanager
    def folder(self, seed: int = 1) -> Iterator[str]:
        """Yield a folder with a model of this shape, which is removed at the end."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder, seed)
            yield folder

    def about(self) -> dict[str, Any]:
        """Return the sizes, for the result file."""
        return asdict(self)


TINY = Shape(layers=6, width=128, heads=4, vocabulary=4096, context=256)
GPT2_SMALL = Shape(layers=12, width=768, heads=12, vocabulary=50257, context=1024)


class LocalModel:
    """A causal language model in a local folder, with its own weights.

    Args:
        path: a folder as `save_pretrained` writes it; its tokenizer is not needed.
        context: number of tokens in a document, at most the model's context.

    Raises:
        SystemExit: the folder has no model, or its context is shorter.
    """

    def __init__(self, path: Path, context: int) -> None:
        if not (path / "config.json").is_file():
            raise SystemExit(f"--model {path}: has no config.json; give a folder with a model")
        config = AutoConfig.from_pretrained(path)
        longest = getattr(config, "max_position_embeddings", context)
        if context > longest:
            raise SystemExit(f"--tokens {context}: the model's context has {longest}; give fewer")
        self.path, self.context, self._config = path, context, config
        self.vocabulary: int = config.vocab_size

    @contextmanager
    def folder(self, seed: int = 1) -> Iterator[str]:
        """Yield the model's folder; the seed is ignored, since the weights are given."""
        yield str(self.path)

    def about(self) -> dict[str, Any]:
        """Return the sizes, for the result file."""
        return sizes(self._config, self.context)


@dataclass(frozen=True)
class RandomModel:
    """A model of any family with random weights, which are drawn on the device and never saved.

    Attributes:
        config: transformers' configuration, without dropout.
        context: number of tokens in a document.
        dtype: type of the weights.
    """

    config: Any
    context: int
    dtype: torch.dtype = torch.float32

    @property
    def vocabulary(self) -> int:
        """Number of tokens in the vocabulary."""
        return self.config.vocab_size

    def build(self, device: str, seed: int = 1) -> Any:
        """Return the model, with the same weights for the same seed and device."""
        torch.manual_seed(seed)
        with torch.device(device):
            return AutoModelForCausalLM.from_config(self.config, dtype=self.dtype)

    def about(self) -> dict[str, Any]:
        """Return the sizes and the type of the weights, for the result file."""
        kind = str(self.dtype).removeprefix("torch.")
        return {**sizes(self.config, self.context), "weights": kind}


def sizes(config: Any, tokens: int) -> dict[str, Any]:
    """Return the sizes that a configuration of transformers describes, for the result file."""
    heads = config.num_attention_heads
    return {
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": heads,
        "key_value_heads": getattr(config, "num_key_value_heads", heads),
        "vocabulary": config.vocab_size,
        "tokens": tokens,
    }


Subject = Shape | LocalModel | RandomModel


def subjects_of(options: argparse.Namespace, shape: Shape) -> dict[str, Subject]:
    """Return what to measure by the ending of its cases' names: `shape`, or --model for each T."""
    if options.model is None:
        return {"": shape}
    return {f"_{count}": LocalModel(options.model, count) for count in options.tokens}


def load(subject: Subject, device: str, seed: int = 1) -> Any:
    """Return the model of a subject as sumcirc loads it, on a device."""
    if isinstance(subject, RandomModel):
        return subject.build(device, seed)
    with subject.folder(seed) as folder:
        return load_model(ModelConfig(name="subject", path=folder)).to(device)  # type: ignore[arg-type]


def load_without_sumcirc(subject: Subject, device: str, seed: int = 1) -> Any:
    """Return the same model as transformers loads it, on a device."""
    if isinstance(subject, RandomModel):
        return subject.build(device, seed)
    with subject.folder(seed) as folder:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
