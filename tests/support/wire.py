"""The built-in tokenizer and articles of the wire, without a model."""

from __future__ import annotations

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.models.loading import load_tokenizer
from sumcirc.schema import EncodingConfig, ModelConfig
from sumcirc.wire import MAIN, articles


def tiny_encoder(context: int = 256, encoding: EncodingConfig | None = None) -> Encoder:
    """Of the built-in model."""
    tokenizer = load_tokenizer(ModelConfig(name="tiny", path="tiny"))
    return Encoder(tokenizer, encoding or EncodingConfig(), context)


def wire_documents(count: int, seed: int = 0, event: str = MAIN) -> list[Document]:
    """The first articles of the test split."""
    found = articles("test", count, seed, event)
    return [Document(one.id, one.document, (one.summary,)) for one in found]
