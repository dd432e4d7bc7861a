"""What a page is made of: sections of blocks, and gaps. The template knows these, not records."""

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
    """Something to type."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences under a heading."""

    kind: ClassVar[str] = "items"
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; `folded` ones open at a click."""

    kind: ClassVar[str] = "table"
    table: kinds.Table
    folded: bool = False


@dataclass(frozen=True)
class Slider:
    """A slider over the frames of a chart: what it is called and the name of every frame."""

    label: str
    names: Sequence[str]


@dataclass(frozen=True)
class Chart:
    """An interactive chart.

    Attributes:
        title: above it.
        caption: what is shown and how to read it.
        alt: what it shows, for those who don't see it.
        figure: a plotly figure's data and layout, of the last frame.
        slider: over `frames`, each of which replaces parts of the figure's traces.
        circuit: compact edges by frame, which the page's script draws itself.
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
        """As the page's script reads it."""
        return script_json(
            short({"figure": self.figure, "frames": self.frames, "circuit": self.circuit})
        )


@dataclass(frozen=True)
class Piece:
    """A piece of a summary; `run` numbers the copied runs, from which colours alternate."""

    text: str
    copied: bool = False


@dataclass(frozen=True)
class Summary:
    """One system's summary of a document."""

    system: str
    pieces: Sequence[Piece]
    facts: Sequence[tuple[str, bool]]
    scores: str


@dataclass(frozen=True)
class Example:
    """A document, its reference and summaries; `document` is empty where no record has it."""

    kind: ClassVar[str] = "example"
    id: str
    document: str
    reference: str
    summaries: Sequence[Summary]


Block = Words | TypedCommand | Bullets | Table | Chart | Example


@dataclass(frozen=True)
class Variant:
    """The same view of one of several runs or models."""

    name: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class PageSection:
    """A section; of several variants the reader chooses one."""

    id: str
    title: str
    intro: str
    variants: Sequence[Variant]

    @property
    def blocks(self) -> list[Block]:
        """Of all variants."""
        return [block for variant in self.variants for block in variant.blocks]


@dataclass(frozen=True)
class Gap:
    """What was not computed, and the command that would."""

    what: str
    command: str = ""


@dataclass
class Page:
    """Sections as they are added, and what is missing."""

    title: str
    sections: list[PageSection] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def add(self, id: str, title: str, intro: str, variants: Sequence[Variant]) -> None:
        """Add a section, unless nothing is in it."""
        filled = [variant for variant in variants if variant.blocks]
        if filled:
            self.sections.append(PageSection(id, title, intro, filled))


def each(runs: Sequence[Any], view: Callable[[Any], Sequence[Block]]) -> list[Variant]:
    """A variant for every run."""
    return [Variant(run.name, view(run)) for run in runs]
