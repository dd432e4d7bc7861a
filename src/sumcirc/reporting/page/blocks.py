"""Parts of a page: sections of blocks, and gaps. The HTML template reads only these classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sumcirc.reporting import kinds
from sumcirc.reporting.page.safe_text import script_json, short


@dataclass(frozen=True)
class Words:
    """A paragraph of text."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True)
class TypedCommand:
    """A shell command that the page shows for the reader to copy and run."""

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
    """A table.

    Attributes:
        table: the table.
        folded: whether the rows are hidden until the reader clicks on the title.
    """

    kind: ClassVar[str] = "table"
    table: kinds.Table
    folded: bool = False


@dataclass(frozen=True)
class Slider:
    """A slider that selects a frame of a chart.

    Attributes:
        label: text beside the slider.
        names: name of each frame, such as the name of a checkpoint.
    """

    label: str
    names: Sequence[str]


@dataclass(frozen=True)
class ChartBlock:
    """An interactive chart.

    Attributes:
        title: heading above the chart.
        caption: text that says what is shown and how to read it.
        alt: content of the chart in words, for readers who can't see it.
        figure: `data` and `layout` of a plotly figure, as they are in the last frame.
        slider: slider that selects a frame; None if the chart has only one frame.
        frames: for each frame, the changes to the figure's traces.
        circuit: nodes and edges of a circuit in each frame, which the page's own script draws;
            None for all other charts.
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
    """A part of a summary's text.

    Attributes:
        text: the text.
        copied: whether the text is copied from the document.
    """

    text: str
    copied: bool = False


@dataclass(frozen=True)
class Summary:
    """One system's summary of a document.

    Attributes:
        system: name of the system that wrote the summary.
        pieces: consecutive parts of the summary's text, each either copied from the document or
            not.
        facts: for each key fact of the document, its name and whether the summary states it
            correctly.
        scores: the summary's scores as one line of text.
    """

    system: str
    pieces: Sequence[Piece]
    facts: Sequence[tuple[str, bool]]
    scores: str


@dataclass(frozen=True)
class Example:
    """A document with its reference summary and the summaries of several systems.

    Attributes:
        id: id of the document.
        document, reference: texts of the document and the reference summary; empty if the run did
            not record them.
        summaries: summaries of the document by several systems.
    """

    kind: ClassVar[str] = "example"
    id: str
    document: str
    reference: str
    summaries: Sequence[Summary]


Block = Words | TypedCommand | Bullets | TableBlock | ChartBlock | Example


@dataclass(frozen=True)
class RunBlocks:
    """A section's content for one run or model.

    Attributes:
        name: name of the run or model, by which the reader chooses it.
        blocks: the content.
    """

    name: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class PageSection:
    """A section of the page, of which the reader sees one variant at a time.

    Attributes:
        id: id of the section's HTML element.
        title: heading of the section.
        intro: text below the heading.
        variants: the variants, one for each run or model.
    """

    id: str
    title: str
    intro: str
    variants: Sequence[RunBlocks]

    @property
    def blocks(self) -> list[Block]:
        """The blocks of all variants in one list."""
        return [block for variant in self.variants for block in variant.blocks]


@dataclass(frozen=True)
class Gap:
    """Something that the page can't show.

    Attributes:
        what: what is missing, and why.
        command: command that would produce it; empty if there is none.
    """

    what: str
    command: str = ""


@dataclass
class Page:
    """An HTML page.

    Attributes:
        title: title of the page.
        sections: the sections, in the order in which they were added.
        gaps: things that the page can't show.
    """

    title: str
    sections: list[PageSection] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def add(self, id: str, title: str, intro: str, variants: Sequence[RunBlocks]) -> None:
        """Add a section, unless none of its variants has a block.

        Args:
            id: id of the section's HTML element.
            title: heading of the section.
            intro: text below the heading.
            variants: the section's variants, of which those without blocks are left out.
        """
        filled = [variant for variant in variants if variant.blocks]
        if filled:
            self.sections.append(PageSection(id, title, intro, filled))


def each(runs: Sequence[Any], view: Callable[[Any], Sequence[Block]]) -> list[RunBlocks]:
    """Return one variant for each run, named after the run.

    Args:
        runs: objects with an attribute `name`.
        view: function that returns the blocks of a run.
    """
    return [RunBlocks(run.name, view(run)) for run in runs]
