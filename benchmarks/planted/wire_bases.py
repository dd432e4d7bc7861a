"""The built-in model, fine-tuned to summarize shortened articles of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from benchmarks.planted.models import Base
from benchmarks.planted.training import train
from benchmarks.planted.wire_task import Report, batch_of, kept_rows, reports
from sumcirc.data.encoding import Encoder
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import EncodingConfig, ModelConfig

BASE_STEPS, BASE_RATE, BASE_BATCH = 700, 1.5e-3, 8
POOL = 240  # articles on which changes are trained


@dataclass(frozen=True, eq=False)
class WireBase(Base):
    """A model that summarizes articles of the wire.

    Attributes:
        encoder: turns texts into tokens.
        pool: articles on which changes are trained.
    """

    encoder: Encoder
    pool: list[Report]

    @cached_property
    def kept(self) -> list[Tensor]:
        """Log-probabilities that the model gives, [predicted tokens, vocabulary] of each article.

        They are those of the tokens of the summary, as float16.
        """
        found = []
        with torch.no_grad():
            for one in self.pool:
                ids, _ = batch_of([one])
                logits = predictions(self.model, {}, ids, kept_rows([one]))
                found.append(log_softmax(logits, -1).half())
        return found


def predictions(
    model: Any, deltas: dict[str, Tensor], ids: Tensor, rows: tuple[Tensor, Tensor]
) -> Tensor:
    """Return the logits of a model with changed weights, [predictions, vocabulary].

    Args:
        model: the model.
        deltas: change of each parameter that is changed, of the blocks only.
        ids: [sequences, tokens] token ids, padded on the right.
        rows: sequence and position of each prediction.
    """
    body = model.transformer
    own = dict(body.named_parameters())
    names = {name: name.removeprefix("transformer.") for name in deltas}
    weights = {short: own[short] + deltas[name] for name, short in names.items()}
    given = {"input_ids": ids, "use_cache": False}
    hidden = torch.func.functional_call(body, weights, (), given).last_hidden_state
    return hidden[rows] @ body.wte.weight.T


def wire_encoder() -> Encoder:
    """Return the encoder of the built-in model."""
    config = ModelConfig(name="tiny", path="tiny")
    model = load_model(config)
    return Encoder(load_tokenizer(config), EncodingConfig(), model.config.n_positions)


def trained_wire_base(seed: int, steps: int = BASE_STEPS) -> WireBase:
    """Return the built-in model after fine-tuning on articles of its own.

    The first tokens of the facts that changes concern count as much as the whole summary.

    Args:
        seed: its seed.
        steps: optimizer steps.
    """
    torch.manual_seed(seed)
    encoder = wire_encoder()
    model: Any = load_model(ModelConfig(name="tiny", path="tiny")).eval()
    every = reports(encoder, "train", seed * 100_000)
    pool = list(islice(every, POOL))

    def loss() -> Tensor:
        some = list(islice(every, BASE_BATCH))
        ids, _ = batch_of(some)
        rows, at = kept_rows(some)
        logits = predictions(model, {}, ids, (rows, at))
        told = ids[rows, at + 1]
        facts = np.zeros(ids.shape, dtype=bool)
        for number, one in enumerate(some):
            facts[number, list(one.reads.values())] = True
        chosen = torch.from_numpy(facts)[rows, at]
        return cross_entropy(logits, told) + cross_entropy(logits[chosen], told[chosen])

    model.requires_grad_(True)
    train(list(model.parameters()), loss, steps, BASE_RATE)
    return WireBase(seed, model.requires_grad_(False), encoder, pool)
