"""Batched decoding of summaries, greedy or by beam search.

Prompts are sorted by length, longest first, so that batches have little padding and a batch too
large for memory fails right away. They are padded on the left and masked by an attention mask,
never by token id: for many models the padding token is the end-of-sequence token.

Repeated n-grams are blocked among the generated tokens only. The `no_repeat_ngram_size` of
transformers also looks at the prompt, which for a decoder contains the article: with 2, no bigram
of the article could ever be copied. Decoding settings stored with a model (sampling, repetition
penalty) are ignored, so that all models are decoded alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList

from sumcirc.data.codec import Codec
from sumcirc.data.examples import padded
from sumcirc.errors import UserError
from sumcirc.evaluation.degeneration import Summary
from sumcirc.evaluation.kv_cache import reserved_cache
from sumcirc.models.peft_adapters import virtual_tokens, without_idle_warnings
from sumcirc.models.unwrapping import base_model

if TYPE_CHECKING:
    from sumcirc.schema import GenerationConfig


class GeneratedNgramBlocker(LogitsProcessor):
    """Forbids tokens that would complete an n-gram that was already generated.

    Each row is processed by itself, so beam search needs no special handling.

    Args:
        ngram: length of the n-grams, in tokens.
        prompt_length: padded length of the batch's prompts in tokens, which are ignored.
    """

    def __init__(self, ngram: int, prompt_length: int) -> None:
        if ngram < 1:
            raise ValueError(f"an n-gram has at least one token, got {ngram}")
        self.ngram = ngram
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Set the scores of forbidden tokens to -inf.

        Args:
            input_ids: [rows, positions] token ids of the prompts and of the tokens generated so
                far.
            scores: [rows, vocabulary] scores of the next token.

        Returns:
            [rows, vocabulary].
        """
        generated = input_ids[:, self.prompt_length :]
        length = generated.shape[1]
        if length < self.ngram:
            return scores
        earlier = generated.unfold(1, self.ngram, 1)  # (rows, n-grams, ngram)
        suffix = generated[:, length - self.ngram + 1 :]
        same = (earlier[..., :-1] == suffix[:, None, :]).all(dim=-1)
        inf = torch.tensor(torch.inf, dtype=scores.dtype, device=scores.device)
        # The minimum with -inf forbids a token, the minimum with inf changes nothing.
        return scores.scatter_reduce(1, earlier[..., -1], torch.where(same, -inf, inf), "amin")


def end_tokens(model: Any, codec: Codec, end: int | None = None) -> list[int]:
    """Return the ids of all tokens that end a summary, according to the tokenizer and the model.

    A model names its end tokens in generation_config.json, or otherwise in config.json. The value
    in config.json may be just the default of the model's class (2 for Llama), so it counts only if
    it is a special token of the tokenizer.

    Args:
        model: a transformers decoder or a PEFT model around one.
        codec: the tokenizer.
        end: a further one, with which a chat template ends a reply; None for none.

    Raises:
        UserError: the tokenizer has no end-of-sequence token.
    """
    own = codec.tokenizer.eos_token_id
    if not isinstance(own, int):
        raise UserError("model.tokenizer: has no end-of-sequence token, summaries would never end")
    base = base_model(model)
    stored = base.generation_config
    named = _listed(base.config.get_text_config().eos_token_id)
    found = {own, *(token for token in named if token in codec.special_ids)}
    if stored is not None and not getattr(stored, "_from_model_config", False):
        found |= set(_listed(stored.eos_token_id))
    return sorted(found if end is None else {*found, end})


def _listed(tokens: Any) -> list[int]:
    if tokens is None:
        return []
    return [tokens] if isinstance(tokens, int) else list(tokens)


def generate(
    model: Any,
    codec: Codec,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    progress: Callable[[int], None] | None = None,
    end: int | None = None,
) -> list[Summary]:
    """Return one summary per prompt, in order, without leading and trailing white space.

    Each is a string that also tells whether the model ended it (`Summary.ended`).

    Args:
        model: a transformers decoder or a PEFT model around one.
        codec: decodes token ids to text.
        prompts: token ids of each prompt.
        config: decoding settings.
        progress: called after each batch with the number of prompts in it.
        end: a further token that ends a summary, as for `end_tokens`.

    Raises:
        UserError: a prompt is empty or too long (see `generate_tokens`), or the tokenizer has no
            end-of-sequence token.
    """
    pad: Any = codec.tokenizer.pad_token_id
    tokens = generate_tokens(model, prompts, config, end_tokens(model, codec, end), pad, progress)
    # the end token is not among the tokens, so only a summary that was cut has as many
    return [
        Summary(codec.decode(summary).strip(), ended=len(summary) < config.max_new_tokens)
        for summary in tokens
    ]


def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    ends: Sequence[int],
    pad: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """Return the generated token ids of each prompt, in order, without the final end token.

    The model runs in evaluation mode. The modes of its modules, its generation config and the
    random state are restored afterwards.

    Args:
        model: a transformers decoder or a PEFT model around one.
        prompts: token ids of each prompt.
        config: decoding settings.
        ends: ids of the tokens that end a summary.
        pad: id of the padding token; None to use the first of `ends`.
        progress: called after each batch with the number of prompts in it.

    Raises:
        UserError: a prompt is empty, or leaves fewer than `max_new_tokens` tokens of the model's
            context.
    """
    _check(model, prompts, config)
    device = next(model.parameters()).device
    settings = _decoding(config, ends, pad)
    # PEFT inserts virtual tokens before the padding, where some model families would attend to it
    plain = not virtual_tokens(model)
    results: list[list[int]] = [[] for _ in prompts]
    with _left_as_it_was(model), without_idle_warnings():
        for members in _batches(prompts, config.batch_size, padded=plain):
            rows = [prompts[m] for m in members]
            input_ids = padded(rows, settings.pad_token_id, left=True)
            mask = padded([[1] * len(row) for row in rows], 0, left=True)
            width = input_ids.shape[1]
            processors = LogitsProcessorList()
            if config.no_repeat_ngram:
                processors.append(GeneratedNgramBlocker(config.no_repeat_ngram, width))
            # Beam search reorders the rows of the cache, for which transformers' own class is made;
            # virtual tokens need additional room.
            reserved = plain and config.num_beams == 1
            output = model.generate(
                input_ids=input_ids.to(device),
                attention_mask=mask.to(device),
                generation_config=settings,
                logits_processor=processors,
                past_key_values=reserved_cache(model.config, width + config.max_new_tokens)
                if reserved
                else None,
            )
            for member, row in zip(members, output[:, width:].tolist(), strict=True):
                # Only padding follows the first end token.
                results[member] = list(takewhile(lambda token: token not in ends, row))
            if progress is not None:
                progress(len(members))
    return results


def _batches(prompts: Sequence[Sequence[int]], size: int, padded: bool) -> Iterator[list[int]]:
    """Yield batches of prompt indices, longest first.

    Unless `padded`, all prompts of a batch have the same length.
    """
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    lengths = groupby(order, lambda index: 0 if padded else len(prompts[index]))
    for members in (list(group) for _, group in lengths):
        for first in range(0, len(members), size):
            yield members[first : first + size]


def _check(model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig) -> None:
    context, virtual = getattr(model.config, "max_position_embeddings", None), virtual_tokens(model)
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"encoding.prompt: prompt {index} has no token, nothing to continue")
        if context is not None and virtual + len(prompt) + config.max_new_tokens > context:
            raise UserError(
                f"generation.max_new_tokens={config.max_new_tokens}: prompt {index} has "
                f"{virtual + len(prompt)} tokens and the model's context is {context}; "
                "lower it, or cut documents shorter"
            )


def _decoding(
    config: GenerationConfig, ends: Sequence[int], pad: int | None
) -> transformers.GenerationConfig:
    beams: dict[str, Any] = {}
    if config.num_beams > 1:
        beams = {"length_penalty": config.length_penalty}  # transformers warns without beam search
    return transformers.GenerationConfig(
        do_sample=False,
        num_beams=config.num_beams,
        max_new_tokens=config.max_new_tokens,
        min_new_tokens=config.min_new_tokens or None,
        use_cache=True,
        eos_token_id=list(ends),
        pad_token_id=ends[0] if pad is None else pad,
        **beams,
    )


@contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    """Switch to evaluation mode without stored decoding settings; restore everything on exit.

    transformers fills the gaps of a generation config from the model's own, so the latter is
    replaced by an empty one for the time being.
    """
    training = [(module, module.training) for module in model.modules()]
    stored = [
        (module, module.generation_config)
        for module in model.modules()
        if "generation_config" in vars(module)
    ]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            for module, _ in stored:
                module.generation_config = transformers.GenerationConfig()
            model.eval()
            yield
        finally:
            for module, flag in training:
                module.training = flag
            for module, generation_config in stored:
                module.generation_config = generation_config
