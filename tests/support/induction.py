"""A GPT-2 whose circuit is known, since its weights are set by hand: two heads do induction."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sumcirc.circuits.inputs.example_pairs import TokenPairs

TOKENS, POSITIONS, HEADS, WIDTH = 16, 12, 4, 64
START = 0  # what every input begins with
PREVIOUS_HEAD, INDUCTION_HEAD = 2, 1
KNOWN_EDGES = {
    f"input->a0.h{PREVIOUS_HEAD}<v>",
    f"a0.h{PREVIOUS_HEAD}->a1.h{INDUCTION_HEAD}<k>",
    f"input->a1.h{INDUCTION_HEAD}<q>",
    f"input->a1.h{INDUCTION_HEAD}<v>",
    f"a1.h{INDUCTION_HEAD}->logits",
}
CORRUPTIONS = ("keys", "gone", "values", "query")

# what the residual stream is used for: this token, its place, the token before, the next token
_TOKEN, _PLACE, _BEFORE, _NEXT = 0, 16, 28, 44
_BALANCE = 60  # and two numbers, +2 and -2, that make up most of every norm's scale
_SCALE = 0.4  # about the deviation of the stream, so that a normed one is divided by it


@torch.no_grad()
def induction_model(sharpness: float = 5.0, noise: float = 0.05, seed: int = 0) -> Any:
    """Attention alone, no MLP; in evaluation mode, float64.

    A head of layer 0 looks one place back and notes what stood there; one of layer 1 looks for the
    places whose note is the present token and copies their token into the prediction. The other
    heads, three in a layer, have small random weights.

    Args:
        sharpness: how far the logit of a wanted place lies above that of the others, in attention.
        noise: standard deviation of the other heads' weights.
    """
    config = GPT2Config(
        vocab_size=TOKENS,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=HEADS,
        tie_word_embeddings=False,
        bos_token_id=START,
        eos_token_id=START,
    )
    with torch.random.fork_rng():
        model = GPT2LMHeadModel(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    body, each = model.transformer, WIDTH // HEADS
    for name, parameter in model.named_parameters():
        if ".ln_" not in name and ".weight" in name:
            parameter.zero_()
    body.wte.weight[:, _TOKEN : _TOKEN + TOKENS] = torch.eye(TOKENS)
    body.wpe.weight[:, _PLACE : _PLACE + POSITIONS] = torch.eye(POSITIONS)
    body.wpe.weight[:, _BALANCE] = 2.0
    body.wpe.weight[:, _BALANCE + 1] = -2.0
    for block in body.h:
        for linear in (block.attn.c_attn, block.attn.c_proj):
            linear.weight.copy_(noise * torch.randn(linear.weight.shape, generator=generator))

    def connect(layer: int, head: int, letter: str, matrix: torch.Tensor) -> None:
        first = "qkv".index(letter) * WIDTH + head * each
        body.h[layer].attn.c_attn.weight[:, first : first + each] = matrix * _SCALE

    def read(first: int, count: int, shift: int = 0) -> torch.Tensor:
        matrix = torch.zeros(WIDTH, each, dtype=torch.float64)
        for i in range(shift, count):
            matrix[first + i, i - shift] = 1.0
        return matrix

    def write(layer: int, head: int, first: int) -> None:
        rows = torch.zeros(each, WIDTH, dtype=torch.float64)
        rows[:, first : first + each] = torch.eye(each)
        body.h[layer].attn.c_proj.weight[head * each : (head + 1) * each] = rows

    sharp = sharpness * each**0.5  # attention divides by the root of a head's width
    connect(0, PREVIOUS_HEAD, "q", sharp * read(_PLACE, POSITIONS, shift=1))
    connect(0, PREVIOUS_HEAD, "k", read(_PLACE, POSITIONS))
    connect(0, PREVIOUS_HEAD, "v", read(_TOKEN, TOKENS))
    write(0, PREVIOUS_HEAD, _BEFORE)
    connect(1, INDUCTION_HEAD, "q", sharp * read(_TOKEN, TOKENS))
    connect(1, INDUCTION_HEAD, "k", read(_BEFORE, TOKENS))
    connect(1, INDUCTION_HEAD, "v", read(_TOKEN, TOKENS))
    write(1, INDUCTION_HEAD, _NEXT)
    # twenty times the prediction, so that a sure head makes a sure model
    model.lm_head.weight[:, _NEXT : _NEXT + TOKENS] = 20 * _SCALE * torch.eye(TOKENS)
    return model


def induction_pairs(
    count: int, seed: int = 0, corruptions: tuple[str, ...] = CORRUPTIONS
) -> tuple[TokenPairs, torch.Tensor, torch.Tensor]:
    """Inputs `.. A B .. C D .. A` of different tokens, with the answer B and the wrong one D.

    An item's id starts with its corruption, one of these in turn: `keys` has A and C in each
    other's place, so that D follows A; `gone` a new token in the place of the first A, so that
    nothing follows it; `values` has B and D in each other's place; `query` asks for C. The order of
    `A B` and `C D` changes from item to item.
    """
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted, answers, others, names = [], [], [], [], []
    for item in range(count):
        drawn = (1 + torch.randperm(TOKENS - 1, generator=generator)).tolist()
        a, b, c, d, new, *rest = drawn
        bigrams = [[a, b], [c, d]]
        if torch.rand((), generator=generator) < 0.5:
            bigrams.reverse()
        tokens = [START, rest[0], *bigrams[0], *rest[1:3], *bigrams[1], *rest[3:5], a]
        kind = corruptions[item % len(corruptions)]
        exchanges = {"keys": {a: c, c: a}, "gone": {a: new}, "values": {b: d, d: b}, "query": {}}
        changed = [exchanges[kind].get(token, token) for token in tokens[:-1]]
        clean.append(tokens)
        corrupted.append([*changed, c if kind == "query" else a])
        answers.append(b)
        others.append(d)
        names.append(f"{kind}-{item}")
    pairs = TokenPairs.from_tokens(clean, corrupted, names)
    return pairs, torch.tensor(answers), torch.tensor(others)
