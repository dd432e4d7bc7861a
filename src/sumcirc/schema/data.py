"""Settings of the data, and how documents are encoded as tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from omegaconf import MISSING

from sumcirc.schema.choices import Choice
from sumcirc.schema.require import at_least, require

SPLITS = ("train", "validation", "test")


class Source(Choice):
    """Source of the documents."""

    wire = "wire"  # the built-in generator
    hub = "hub"  # a data set on the Hugging Face hub
    files = "files"  # the user's own JSONL, CSV or Parquet files


class WireEvent(Choice):
    """Event of the built-in wire's articles that the summaries report."""

    second = "second"  # the one that the article reports in passing


@dataclass
class SizesConfig:
    """Number of items of each split, drawn at random by `data.seed`; null takes all."""

    train: Optional[int] = None  # items for training
    validation: Optional[int] = None  # items for the validation loss and measures in training
    test: Optional[int] = None  # items that are scored, and that `circuit` and `compare` analyse

    def __post_init__(self) -> None:
        at_least(self, "data.sizes.", 1, *SPLITS)


@dataclass
class DataConfig:
    """Pairs of documents and summaries (conf/data)."""

    name: str = MISSING  # short name, used in run names
    source: Source = MISSING
    path: Optional[str] = None  # hub id (source hub)
    subset: Optional[str] = None  # hub configuration name
    revision: Optional[str] = None  # hub revision
    train: Optional[str] = None  # name of a split (hub), or file or glob pattern (files)
    validation: Optional[str] = None  # as `train`
    test: Optional[str] = None  # as `train`
    document_column: str = "document"  # column of the documents
    summary_column: str = "summary"  # column of the summaries: a text, or a list of references
    references_column: Optional[str] = None  # column with a list of further references
    id_column: Optional[str] = None  # column of the ids; null: `split-index`
    sizes: SizesConfig = field(default_factory=SizesConfig)
    seed: int = 0  # draws subsets; independent of the training seed, so all runs use the same items
    # a control: pairs each training document with another's summary, drawn by this seed; null: off
    permute_summaries: Optional[int] = None
    event: Optional[WireEvent] = None  # source wire: the event to summarize; null: the main one

    def __post_init__(self) -> None:
        at_least(self, "data.", 0, "seed", "permute_summaries")
        if self.event is not None:
            self.event = WireEvent.of(self.event, "data.event")
            require(
                self.source is Source.wire,
                f"data.event={self.event}: only articles of the built-in wire have several events;"
                " use data=wire, or data.event=null",
            )


class Template(Choice):
    """The text around a document and its summary."""

    text = "text"  # `encoding.prompt` and `encoding.summary`
    chat = "chat"  # the tokenizer's chat template; the summary is the assistant's reply


# settings of a template that the other one leaves unused
TEXTS_OF = {Template.text: ("prompt", "summary"), Template.chat: ("instruction", "system")}


@dataclass
class EncodingConfig:
    """Encoding of a pair as tokens: a prompt with the document, then the summary, then EOS."""

    prompt: str = "{document}\nTL;DR:"  # text before the summary; contains {document} once
    summary: str = " {summary}"  # text after the prompt; contains {summary} once
    max_length: Optional[int] = None  # tokens of the whole sequence; null: the model's context
    max_summary_tokens: int = 128  # longer summaries are excluded from training, and counted
    template: Template = Template.text
    # the user's message to a chat model; contains {document} once
    instruction: str = "Summarize the following text.\n\n{document}"
    system: Optional[str] = None  # system message to a chat model; null: the template's own, if any

    def __post_init__(self) -> None:
        self.template = Template.of(self.template, "encoding.template")
        require(
            self.prompt.count("{document}") == 1,
            f"encoding.prompt={self.prompt!r}: must hold {{document}} exactly once",
        )
        require(
            self.summary.count("{summary}") == 1,
            f"encoding.summary={self.summary!r}: must hold {{summary}} exactly once",
        )
        require(
            self.instruction.count("{document}") == 1,
            f"encoding.instruction={self.instruction!r}: must hold {{document}} exactly once",
        )
        at_least(self, "encoding.", 1, "max_length", "max_summary_tokens")
        self._check_unused()

    def _check_unused(self) -> None:
        """Refuse a text that was set and that the other template would leave unused."""
        chat = self.template is Template.chat
        unused = TEXTS_OF[Template.text if chat else Template.chat]
        instead = (
            "write encoding.instruction"
            if chat
            else "add encoding.template=chat, or set encoding.prompt"
        )
        for name in unused:
            value = getattr(self, name)
            require(
                value == getattr(type(self), name),
                f"encoding.{name}={value!r}: is not used with encoding.template={self.template};"
                f" {instead}",
            )
