"""The site builds without a warning, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.manual import DOCS, ROOT

pytestmark = pytest.mark.skipif(
    find_spec("material") is None, reason="the extra `docs` is not installed"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert {path for path in pages if not (site / path).is_file()} == set()
    assert not list(site.rglob("*.py*"))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loading = r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?([^"' >]+)|<link\b([^>]+)>"""
    for file in site.rglob("*.html"):
        for source, link in re.findall(loading, file.read_text(encoding="utf-8")):
            assert "//" not in source
            assert "//" not in link or 'rel="canonical"' in link
    for file in site.rglob("*.css"):
        for address in re.findall(r"url\(([^)]+)\)", file.read_text(encoding="utf-8")):
            assert address.startswith(("data:", "'data:", '"data:')), address
