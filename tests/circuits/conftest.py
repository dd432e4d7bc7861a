"""The built-in model and articles of the wire, which tests of pairs share."""

from __future__ import annotations

from typing import Any

import pytest

from sumcirc.data.documents import Document, read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.models.architectures import context_length
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import DataConfig, EncodingConfig, ModelConfig, SizesConfig, Source, WireEvent

TINY = ModelConfig(name="tiny", path="tiny")


@pytest.fixture(scope="session")
def model() -> Any:
    return load_model(TINY).eval()


@pytest.fixture(scope="session")
def encoder(model: Any) -> Encoder:
    return Encoder(load_tokenizer(TINY), EncodingConfig(), context_length(model.config))


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return wire(None)


@pytest.fixture(scope="session", params=[None, WireEvent.second], ids=["main", "second"])
def each_event(request: pytest.FixtureRequest) -> list[Document]:
    """The same articles, summarized by their main event and by their second one."""
    return wire(request.param)


def wire(event: WireEvent | None) -> list[Document]:
    config = DataConfig(
        name="wire",
        source=Source.wire,
        train="train",
        validation="validation",
        test="test",
        sizes=SizesConfig(test=30),
        event=event,
    )
    return read_corpus(config, "test").documents
