"""Pretraining of the built-in base model: a small GPT-2 that can read and copy news articles.

It cannot summarize, since it never sees a summary. Plain text alone does not teach a model of this
size to copy. Therefore:
1. it starts with sinusoidal position embeddings and one head (layer 0, head 0) that attends to the
   previous token: half of an induction head, which takes much longer to form from a random start;
2. echo warm-up: it trains on rows of a repeated random token sequence, which forms the other half,
   as repeated text does in a large corpus (Olsson et al. 2022, arXiv 2209.11895);
3. it trains on articles as plain text, a third of them bulletins (some of an article's sentences,
   repeated once); every fourth step is an echo batch, so that copying is not unlearnt.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sumcirc.data.sentences import split_sentences
from sumcirc.errors import UserError
from sumcirc.schema import PretrainConfig
from sumcirc.wire import articles

EOS = "<|endoftext|>"
BULLETINS = 0.35  # fraction of documents that are bulletins
ECHO_EVERY = 4  # optimizer steps
ECHO_ROWS, ECHO_PERIOD, ECHO_TOKENS = 32, 24, 512
ECHO_LEARNT = 0.2  # mean loss, in nats, at which the warm-up ends


def train_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, like that of GPT-2, whose only special token is EOS.

    Args:
        texts: texts on which the tokenizer is trained.
        size: number of tokens in the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, bos_token=EOS)


def new_model(config: PretrainConfig, eos: int) -> GPT2LMHeadModel:
    """Return a randomly initialised GPT-2 of the configured size, without dropout.

    Args:
        config: sizes of the model.
        eos: id of the EOS token.
    """
    shape = GPT2Config(
        vocab_size=config.vocabulary,
        n_positions=config.context,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's, as one fused operation
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=eos,
        eos_token_id=eos,
    )
    return GPT2LMHeadModel(shape)


@torch.no_grad()
def start_previous_token_head(model: GPT2LMHeadModel) -> None:
    """Initialise head 0 of layer 0 to attend to the previous token, by sinusoidal positions.

    Position embeddings p(t) = (sin(w t), cos(w t)) over a range of frequencies w lie in a random
    subspace of the head's width. The key at position s is p(s), and the query at position t is R
    p(t) with the rotation R p(t) = p(t - 1), so their product is largest at s = t - 1 (Vaswani et
    al. 2017 note that shifts are linear).

    Args:
        model: the model, which is changed in place.
    """
    shape, attention = model.config, model.get_submodule("transformer.h.0.attn")
    width, size = shape.n_embd, shape.n_embd // shape.n_head
    half = size // 2
    frequencies = math.pi * (1 / 64) ** (torch.arange(half) / (half - 1))
    angles = torch.arange(shape.n_positions)[:, None] * frequencies
    subspace = torch.linalg.qr(torch.randn(width, width))[0][:size]
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    model.transformer.wpe.weight.copy_(0.1 * waves @ subspace)
    cosine, sine = torch.diag(frequencies.cos()), torch.diag(frequencies.sin())
    back_by_one = torch.cat(
        [torch.cat([cosine, sine], dim=1), torch.cat([-sine, cosine], dim=1)], dim=0
    )
    weight = attention.get_parameter("c_attn.weight")
    weight[:, :size] = subspace.T @ back_by_one
    weight[:, width : width + size] = subspace.T


def echo_loss(model: GPT2LMHeadModel, generator: np.random.Generator) -> Tensor:
    """Return the mean loss, in nats, on repeated random sequences of 8 to 24 tokens.

    The first 24 tokens of a row are not predicted. The tokens of a batch are drawn from at most 512
    tokens of the vocabulary, and the softmax is taken only over these, since the full softmax would
    cost more than the blocks.

    Args:
        model: the model.
        generator: random generator that draws the sequences.
    """
    tokens = np.arange(1, model.config.vocab_size)
    count = min(ECHO_TOKENS, len(tokens))
    drawn = torch.from_numpy(generator.choice(tokens, count, replace=False))
    rows = [
        np.resize(generator.integers(0, count, generator.integers(8, ECHO_PERIOD + 1)), 64)
        for _ in range(ECHO_ROWS)
    ]
    batch = torch.from_numpy(np.stack(rows))
    hidden = model.transformer(drawn[batch], use_cache=False).last_hidden_state
    logits = hidden[:, ECHO_PERIOD - 1 : -1] @ model.transformer.wte.weight[drawn].T
    return F.cross_entropy(logits.flatten(0, 1), batch[:, ECHO_PERIOD:].flatten())


def document(text: str, choice: random.Random) -> str:
    """Return an article unchanged, or a bulletin, which is some of its sentences, repeated once.

    Args:
        text: the article.
        choice: random generator that decides between the two and draws the sentences.
    """
    if choice.random() >= BULLETINS:
        return text
    sentences = split_sentences(text)
    count = choice.randint(2, max(2, len(sentences) // 2))
    first = choice.randint(0, len(sentences) - count)
    part = " ".join(sentences[first : first + count])
    return f"{part}\n{part}"


def packed_rows(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, config: PretrainConfig, seed: int
) -> Tensor:
    """Concatenate the tokens of documents, each followed by EOS, and cut them into full rows.

    Args:
        texts: the articles, some of which are replaced by bulletins, see `document`.
        tokenizer: encodes the documents.
        config: sets the length of a row, `context`.
        seed: seed of the random choice of bulletins.

    Returns:
        [rows, context] token ids.
    """
    choice = random.Random(seed)
    encoded = tokenizer([document(text, choice) for text in texts]).input_ids
    eos = tokenizer.get_vocab()[EOS]
    stream = np.fromiter((t for ids in encoded for t in (*ids, eos)), dtype=np.int64)
    rows = len(stream) // config.context
    return torch.from_numpy(stream[: rows * config.context].reshape(rows, config.context))


@dataclass(frozen=True)
class Pretrained:
    """The result of pretraining.

    Attributes:
        model: the pretrained model.
        tokenizer: the model's tokenizer.
        echo_steps: number of warm-up steps, which train on repeated random sequences.
    """

    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    echo_steps: int


def pretrain(
    config: PretrainConfig,
    report: Callable[[int, int, str, float], None],
) -> Pretrained:
    """Train a tokenizer and a small GPT-2 on articles of the built-in corpus of synthetic news.

    Args:
        config: size of the model, number of articles, numbers of steps, and learning rates.
        report: called after each step with the number of this step, the largest possible number of
            steps, the kind of batch (`echo` for repeated random sequences, `text` for articles),
            and the loss in nats.

    Returns:
        The model, its tokenizer, and the number of warm-up steps that were taken.

    Raises:
        UserError: repeated sequences were not learnt within `config.echo_steps` steps.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    texts = [item.document for item in articles("pretrain", config.articles, config.seed)]
    tokenizer = train_tokenizer(texts[:8000], config.vocabulary)
    model = new_model(config, tokenizer.get_vocab()[EOS])
    start_previous_token_head(model)
    rows = packed_rows(texts, tokenizer, config, config.seed)
    generator = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )

    def learn(loss: Tensor, learning_rate: float) -> float:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        return loss.item()

    recent: deque[float] = deque([math.inf], maxlen=100)
    step = 0
    while step < config.echo_steps and sum(recent) / len(recent) > ECHO_LEARNT:
        step += 1
        recent.append(
            learn(echo_loss(model, generator), config.echo_learning_rate * min(1.0, step / 100))
        )
        report(step, config.echo_steps + config.steps, "echo", recent[-1])
    if sum(recent) / len(recent) > ECHO_LEARNT:
        raise UserError(
            f"echo_steps={config.echo_steps}: repetition was not learnt (loss"
            f" {sum(recent) / len(recent):.2f}); raise echo_steps, or change the seed"
        )
    order = torch.cat([torch.randperm(len(rows)) for _ in range(epochs(config, len(rows)))])
    for index in range(config.steps):
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * index / config.steps))
        if index % ECHO_EVERY == ECHO_EVERY - 1:
            kind, loss = "echo", echo_loss(model, generator)
        else:
            batch = rows[order[index * config.batch_size : (index + 1) * config.batch_size]]
            kind, loss = "text", language_model_loss(model, batch)
        report(
            step + index + 1, step + config.steps, kind, learn(loss, config.learning_rate * decay)
        )
    return Pretrained(model.eval(), tokenizer, echo_steps=step)


def epochs(config: PretrainConfig, rows: int) -> int:
    """Return the number of passes over the rows that all steps together need, rounded up.

    Args:
        config: sets the number of steps and the batch size.
        rows: number of rows.
    """
    return -(-config.steps * config.batch_size // rows)


def language_model_loss(model: GPT2LMHeadModel, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy of next-token prediction on rows without padding, in nats.

    Args:
        model: the model.
        batch: [rows, context] token ids.
    """
    logits = model(batch, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def copy_loss(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, items: int) -> float:
    """Return the mean loss, in nats, on repeated text, which is near 0 for a model that copies.

    The first half of each held-out article's sentences is repeated once, and the loss is that on
    the repetition.

    Args:
        model: the model.
        tokenizer: the model's tokenizer.
        items: number of held-out articles.
    """
    losses = []
    for item in articles("validation", items):
        sentences = split_sentences(item.document)
        part = " ".join(sentences[: len(sentences) // 2])
        once = tokenizer(part).input_ids
        ids = torch.tensor([[*once, *tokenizer(f"\n{part}").input_ids]])
        logits = model(ids).logits[0, len(once) : -1]
        losses.append(F.cross_entropy(logits, ids[0, len(once) + 1 :]).item())
    return sum(losses) / len(losses)


@torch.no_grad()
def perplexities(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, items: int
) -> dict[str, float]:
    """Return the perplexities per token of the model and of a bigram model on held-out articles.

    The bigram model is p(w | v) = 0.9 c(v, w) / c(v) + 0.1 (c(w) + 1) / (N + V) (Jelinek-Mercer),
    counted on ten times as many training articles.

    Args:
        model: the model.
        tokenizer: the model's tokenizer.
        items: number of held-out articles.

    Returns:
        The two perplexities, by the names `model` and `bigram`.
    """
    encode = lambda split, size: [  # noqa: E731
        [*tokenizer(item.document).input_ids, tokenizer.get_vocab()[EOS]]
        for item in articles(split, size)
    ]
    size = len(tokenizer)
    pairs = np.zeros((size, size))
    for ids in encode("pretrain", items * 10):
        np.add.at(pairs, (ids[:-1], ids[1:]), 1)
    unigram = (pairs.sum(0) + 1) / (pairs.sum() + size)
    given = pairs / np.maximum(pairs.sum(1, keepdims=True), 1)
    total, bigram, tokens = 0.0, 0.0, 0
    for ids in encode("test", items):
        logits = model(torch.tensor([ids])).logits[0, :-1]
        total += F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
        chance = 0.9 * given[ids[:-1], ids[1:]] + 0.1 * unigram[ids[1:]]
        bigram -= float(np.log(chance).sum())
        tokens += len(ids) - 1
    return {"model": math.exp(total / tokens), "bigram": math.exp(bigram / tokens)}
