"""Parts of a page: sections of blocks, and gaps. The template depends on these, not on records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sumcirc.reporting import kinds
from sumcirc.reporting.page.safe_text import script_json, short


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class TypedCommand:
    """A command for the reader to run."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences under a heading."""

    kind: ClassVar[str] = "items"
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class TableBlock:
    """A table; a `folded` one is opened by a click."""

    kind: ClassVar[str] = "table"
    table: kinds.Table
    folded: bool = False


@dataclass(frozen=True)
class Slider:
    """A slider over the frames of a chart: its label and the name of every frame."""

    label: str
    names: Sequence[str]


@dataclass(frozen=True)
class ChartBlock:
    """An interactive chart.

    Attributes:
        title: shown above it.
        caption: what is shown and how to read it.
        alt: its content in words, for readers who can't see it.
        figure: data and layout of a plotly figure, of the last frame.
        slider: over `frames`.
        frames: each replaces parts of the figure's traces.
        circuit: compact edges by frame, which the page's script draws.
    """

    kind: ClassVar[str] = "chart"
    title: str
    caption: str
    alt: str
    figure: dict[str, Any]
    slider: Slider | None = None
    frames: Sequence[Sequence[dict[str, Any]]] = ()
    circuit: dict[str, Any] | None = None

    def data(self) -> Any:
        """Return the chart as JSON for the page's script."""
        return script_json(
            short({"figure": self.figure, "frames": self.frames, "circuit": self.circuit})
        )


@dataclass(frozen=True)
class Piece:
    """A part of a summary, and whether it is copied from the document."""

    text: str
    copied: bool = False


@dataclass(frozen=True)
class Summary:
    """One system's summary of a document.

    Attributes:
        system: its name.
        pieces: the text in parts.
        facts: key facts, and whether the summary has them right.
        scores: in words.
    """

    system: str
    pieces: Sequence[Piece]
    facts: Sequence[tuple[str, bool]]
    scores: str


@dataclass(frozen=True)
class Example:
    """A document, its reference and summaries; `document` is empty if no record contains it."""

    kind: ClassVar[str] = "example"
    id: str
    document: str
    reference: str
    summaries: Sequence[Summary]


Block = Words | TypedCommand | Bullets | TableBlock | ChartBlock | Example


@dataclass(frozen=True)
class Variant:
    """The same view for one of several runs or models."""

    name: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class PageSection:
    """A section; the reader chooses one of its variants."""

    id: str
    title: str
    intro: str
    variants: Sequence[Variant]

    @property
    def blocks(self) -> list[Block]:
        """The blocks of all variants."""
        return [block for variant in self.variants for block in variant.blocks]


@dataclass(frozen=True)
class Gap:
    """Something that was not computed, and the command that would compute it."""

    what: str
    command: str = ""


@dataclass
class Page:
    """Sections in the order in which they are added, and gaps."""

    title: str
    sections: list[PageSection] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def add(self, id: str, title: str, intro: str, variants: Sequence[Variant]) -> None:
        """Add a section, unless it is empty.

        Args:
            id: of the HTML element.
            title: heading of the section.
            intro: shown below the heading.
            variants: those without blocks are left out.
        """
        filled = [variant for variant in variants if variant.blocks]
        if filled:
            self.sections.append(PageSection(id, title, intro, filled))


def each(runs: Sequence[Any], view: Callable[[Any], Sequence[Block]]) -> list[Variant]:
    """Return a variant for every run.

    Args:
        runs: with a `name`.
        view: returns the blocks for a run.
    """
    return [Variant(run.name, view(run)) for run in runs]
