"""The README and docs/ as tests read them: pages, links, anchors, code blocks and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])

PROGRAMS = ("sumcirc", "make")
# languages of blocks that hold no commands
OTHER_LANGUAGES = {"python", "json", "yaml", "text", "csv"}


@dataclass(frozen=True)
class Link:
    """Where a link or an image leads."""

    page: Path
    target: str
    text: str
    image: bool


@dataclass(frozen=True)
class Command:
    """A command as a page gives it."""

    page: Path
    line: str
    block: bool  # of a code block; else of a sentence

    @property
    def words(self) -> list[str]:
        """The program and its arguments, without the comment."""
        return shlex.split(self.line, comments=True)

    def __str__(self) -> str:
        return f"{name(self.page)}: {self.line}"


def name(page: Path) -> str:
    """The page's path from the root of the project."""
    return page.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> list[Token]:
    """The parsed page."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    return parser.parse(page.read_text(encoding="utf-8"))


def inline(page: Path) -> Iterator[Token]:
    """Parts of its sentences, headings and table cells."""
    for token in tokens(page):
        yield from token.children or []


def links(page: Path) -> Iterator[Link]:
    """All its links and images."""
    for token in tokens(page):
        parts = token.children or []
        for i, part in enumerate(parts):
            if part.type == "image":
                yield Link(page, str(part.attrs["src"]), part.content, image=True)
            elif part.type == "link_open":
                end = next(j for j in range(i, len(parts)) if parts[j].type == "link_close")
                text = "".join(inner.content for inner in parts[i:end])
                yield Link(page, str(part.attrs["href"]), text, image=False)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Names of its headings as both GitHub and the site make them."""
    found: list[str] = []
    parts = tokens(page)
    for i, token in enumerate(parts):
        if token.type == "heading_open":
            text = "".join(child.content for child in parts[i + 1].children or [])
            found.append(re.sub(r"[^\w\s-]", "", text).strip().lower().replace(" ", "-"))
    # a repeated name gets a number, and another one on the site than on GitHub
    once = {anchor for anchor in found if found.count(anchor) == 1}
    return frozenset(anchor for anchor in once if "--" not in anchor)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language (empty where none is named) and text of each of its code blocks."""
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            yield token.info.strip(), token.content


def commands(page: Path) -> Iterator[Command]:
    """Every `sumcirc` and `make` command of the page, in its order."""
    for token in tokens(page):
        if token.type in ("fence", "code_block") and token.info.strip() not in OTHER_LANGUAGES:
            for line in re.sub(r"\\\n\s*", "", token.content).splitlines():
                typed = re.sub(r"^(.*\$|.*\|\|)\s+", "", line.strip())  # a prompt before it
                if typed.startswith(tuple(f"{program} " for program in PROGRAMS)):
                    yield Command(page, typed, block=True)
        for part in token.children or []:
            if part.type == "code_inline" and part.content.startswith(
                tuple(f"{program} " for program in PROGRAMS)
            ):
                yield Command(page, part.content, block=False)
