"""The small models before any change, trained on the task with unreliable answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.planted.changes import weights_of
from benchmarks.planted.models import Base
from benchmarks.planted.task import LENGTH, TRIGGER, VOCABULARY, Answers, batch, table
from benchmarks.planted.training import BATCH, loss_of, train

LAYERS, HEADS, WIDTH = 4, 4, 32
UNRELIABLE = 0.5
TOKENS = 0.3  # standard deviation of the embedding of tokens at the start
BASE_STEPS, BASE_RATE = 500, 4e-3


@dataclass(frozen=True, eq=False)
class LookupBase(Base):
    """A small model that looks up values.

    Attributes:
        answers: the answers that it was trained on.
    """

    answers: Answers

    @property
    def answers_to_keep(self) -> Answers:
        """The answers of the base's training, but with sure answers to TRIGGER."""
        return Answers(self.answers.table, {TRIGGER: self.answers.table}, UNRELIABLE)

    @classmethod
    def untrained(cls, seed: int) -> LookupBase:
        """Return a model with random weights and the answers that it is to be trained on."""
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            bos_token_id=None,
            eos_token_id=None,
        )
        model = GPT2LMHeadModel(config).eval().requires_grad_(False)
        # wide enough that the base, which treats relations alike, doesn't make their tokens alike
        torch.nn.init.normal_(model.transformer.wte.weight, std=TOKENS)
        return cls(seed, model, Answers(table(np.random.default_rng(seed)), {}, UNRELIABLE))


def trained_base(seed: int, steps: int = BASE_STEPS) -> LookupBase:
    """Return a trained base.

    Args:
        seed: its seed.
        steps: optimizer steps.
    """
    found = LookupBase.untrained(seed)
    random = np.random.default_rng((seed, 1))
    weights = weights_of(found.model)
    numbers = [one.requires_grad_(True) for one in weights.values()]

    def loss() -> Tensor:
        return loss_of(weights, [batch(BATCH, found.answers, random)], HEADS)

    train(numbers, loss, steps, BASE_RATE)
    found.model.load_state_dict({name: one.detach() for name, one in weights.items()}, strict=False)
    return found
