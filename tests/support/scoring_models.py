"""Small random models that score summaries: an encoder and a classifier, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXT = """the a cat dog sat on mat ran home with red blue hat of and then he she it was storm
closed port of lisbon monday nobody knows for how long . , ferry stood still"""
WORDS = TEXT.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LIMIT = 24
LABELS = ("contradiction", "Entailment", "neutral")


def tokenizer(limit: int | None = LIMIT) -> Any:
    """One token a word, between [CLS] and [SEP], as BERT's."""
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([*SPECIAL, *WORDS]))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    limits = {} if limit is None else {"model_max_length": limit}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **limits,
    )


def config(labels: tuple[str, ...] = LABELS) -> transformers.BertConfig:
    """Of a BERT with three layers; weights are large, so that inputs make a difference."""
    return transformers.BertConfig(
        vocab_size=len(dict.fromkeys([*SPECIAL, *WORDS])),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LIMIT,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )


def encoder_folder(folder: Path) -> Path:
    """A folder with an encoder that has no pooler, as one trained on masked tokens."""
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def classifier_folder(folder: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """A folder with a classifier of pairs of texts."""
    torch.manual_seed(1)
    transformers.BertForSequenceClassification(config(labels)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
