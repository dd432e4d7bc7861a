"""A small tokenizer of every kind that models come with, trained on a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

TEXTS = [
    "A storm closed the port of Lisbon on Monday, and nobody knows for how long.",
    "The ferry of Porto stood still; its mast had broken in the night.",
    "Staff saw it in the log, where 12 of 340 lines end with a name.",
] * 4
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's, but beginning a text with <s>."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _train(raw, trainers.BpeTrainer, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    raw.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)]),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")


def llama(legacy: bool) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE as Llama 2 has it: spaces are ▁, and one is put before the first word.

    Args:
        legacy: it is put there by the normalizer, also behind a special token.
    """
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    _train(raw, trainers.BpeTrainer, special_tokens=["<unk>", "<s>", "</s>", *BYTES])
    state = json.loads(raw.to_str())
    state["added_tokens"] = state["added_tokens"][:3]
    if legacy:
        state["pre_tokenizer"] = None
    raw = Tokenizer.from_str(json.dumps(state))
    if legacy:
        spaces = normalizers.Replace(" ", "▁")
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    raw.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def unigram() -> PreTrainedTokenizerFast:
    """As T5's, which puts ▁ before every piece of text; its special tokens are pieces as well."""
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>"]
    _train(raw, trainers.UnigramTrainer, special_tokens=special, unk_token="<unk>")
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def word_piece() -> PreTrainedTokenizerFast:
    """As BERT's, lower case."""
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    _train(raw, trainers.WordPieceTrainer, special_tokens=["[UNK]", "[CLS]", "[SEP]"])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="[SEP]", unk_token="[UNK]", cls_token="[CLS]"
    )


def _train(raw: Tokenizer, trainer: Any, **options: Any) -> None:
    raw.train_from_iterator(
        TEXTS, trainer(vocab_size=600, show_progress=False, **options), len(TEXTS)
    )


KINDS: dict[str, Callable[[], Any]] = {
    "byte level": byte_level,
    "llama": lambda: llama(legacy=False),
    "llama, legacy": lambda: llama(legacy=True),
    "unigram": unigram,
    "word piece": word_piece,
    "bytes, slow": ByT5Tokenizer,  # has no backend
}
LOSSLESS = ("byte level", "llama", "llama, legacy", "bytes, slow")


@cache
def small_tokenizer(kind: str) -> Any:
    """One kind of tokenizer, shared by all tests, which must not modify it."""
    return KINDS[kind]()
