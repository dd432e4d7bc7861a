"""Every link, image and path that the README and docs/ name leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.support.manual import DOCS, PAGES, ROOT, anchors, blocks, inline, links, name

IDS = [name(page) for page in PAGES]
OWN_FOLDERS = ("docs/", "src/", "tests/", "conf/", "benchmarks/", "callbacks/")


def wrong_with(page: Path, target: str) -> str | None:
    """What is the matter with a link's target, None where it is fine."""
    parts = urlsplit(target)
    if parts.scheme:
        fine = parts.scheme in ("https", "http", "mailto") and "." in (parts.netloc or parts.path)
        return None if fine and not re.search(r"\s", target) else "is no address"
    if parts.netloc or parts.path.startswith("/"):
        return "is not relative"
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not file.exists():
        return "is not there"
    if page.is_relative_to(DOCS) and not file.is_relative_to(DOCS):
        return "leads out of docs/, so it is dead in the site"
    if page.is_relative_to(DOCS) and file.is_dir():
        return "is a folder"
    if parts.fragment and file.suffix == ".md" and parts.fragment not in anchors(file):
        return f"has no heading of that name; there are {', '.join(sorted(anchors(file)))}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = {link.target: said for link in links(page) if (said := wrong_with(page, link.target))}
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_images_and_links_say_what_they_are(page: Path) -> None:
    assert not [link.target for link in links(page) if not link.text.strip()]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("circuits.md", None),
        ("circuits.md#pairs", None),
        ("#also-nowhere", "no heading"),
        ("circuits.md#nowhere", "no heading"),
        ("nowhere.md", "not there"),
        ("images/nowhere.png", "not there"),
        ("../README.md", "out of docs/"),
        ("results", "a folder"),
        ("/docs/circuits.md", "not relative"),
        ("https://arxiv.org/abs/2403.17806", None),
        ("https://nowhere", "no address"),
        ("htps://arxiv.org", "no address"),
    ],
)
def test_a_wrong_link_is_found(target: str, said: str | None) -> None:
    found = wrong_with(DOCS / "index.md", target)
    assert found is None if said is None else found is not None and said in found


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_paths_of_the_project_are_there(page: Path) -> None:
    """Paths in code quotes, such as `docs/sweeps.md`, and in comments of code blocks."""
    named = [part.content for part in inline(page) if part.type == "code_inline"]
    named += [found for _, text in blocks(page) for found in re.findall(r"docs/\S+\.md", text)]
    paths = {path for path in named if path.startswith(OWN_FOLDERS) and " " not in path}
    yours = re.compile(r"\bmine\b|\*|[A-Z]{3}")  # files that a reader makes, and patterns
    assert not {path for path in paths if not (ROOT / path).exists() and not yours.search(path)}


def test_every_page_is_in_the_site_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entries: list[object]) -> list[str]:
        found: list[str] = []
        for entry in entries:
            value = next(iter(entry.values())) if isinstance(entry, dict) else entry
            found += pages(value) if isinstance(value, list) else [str(value)]
        return found

    there = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(pages(config["nav"])) == there


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        (link.page.parent / link.target).resolve()
        for page in PAGES
        for link in links(page)
        if link.image
    }
    assert set((DOCS / "images").iterdir()) <= shown
