"""The built-in tokenizer and articles of the wire, without a model."""

from __future__ import annotations

from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.wire import articles
from sumcirc.modeling.loading import load_tokenizer
from sumcirc.schema import EncodingConfig, ModelConfig


def tiny_encoder(context: int = 256, encoding: EncodingConfig | None = None) -> Encoder:
    """Of the built-in model."""
    tokenizer = load_tokenizer(ModelConfig(name="tiny", path="tiny"))
    return Encoder(tokenizer, encoding or EncodingConfig(), context)


def wire_documents(count: int, seed: int = 0) -> list[Document]:
    """The first articles of the test split."""
    return [Document(one.id, one.document, (one.summary,)) for one in articles("test", count, seed)]
