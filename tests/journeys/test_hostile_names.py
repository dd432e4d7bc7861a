"""A sweep whose every name tries to be more than a name, through the verbs that show it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from sumcirc.cli.main import main
from sumcirc.jobs.report import run as report
from sumcirc.reporting.views.system_scores import print_scores, sweep_rows
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from sumcirc.tracking.run_directory import RunDirectory
from tests.support.hostile import NAMES, SENTINEL
from tests.support.sweeps import config, write_run

FOLDERS = {
    kind: name[:120].replace("/", "|").replace("\x00", "").replace("\ud800", os.fsdecode(b"\xe9"))
    for kind, name in NAMES.items()
    if name
}
QUIET = LoggerConfig(kind=LoggerKind.none)
SHOWN = ["a link", "a formula", "html", "math", "markup of rich", "underscore", "a template"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Done runs of two arms whose labels are hostile, and a failed run by every name."""
    folder = tmp_path_factory.mktemp("runs") / FOLDERS["escapes"]
    for kind in SHOWN:
        for seed in (1, 2):
            settings = config(seed=seed, model__name=NAMES[kind], data__name=NAMES[kind])
            settings["selector"] = {"name": kind, "count": None, "seed": None}
            settings["encoding"] = {**settings["encoding"], "prompt": f"{{document}}{NAMES[kind]}"}
            write_run(folder / f"{kind}{FOLDERS[kind]}-{seed}", settings, 0.5, documents=8)
    for name in FOLDERS.values():
        failed = RunDirectory.create(folder / f"x{name}", "train", config())
        failed.set_status("failed", reason=name)
    return folder


def check_output(text: str) -> None:
    """It commands no terminal."""
    assert text.strip()
    for one in text:
        assert one.isprintable() or one in "\n\t\xa0", ascii(one)
    assert "Traceback" not in text


def test_status(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["status", str(sweep)])
    found = capsys.readouterr()
    check_output(found.out)
    assert not found.err
    joined = "".join(found.out.split())
    assert r"x\x1b[2J\x1b]0;x\x07\x9b31m\x08" in joined
    assert "x[|red]" in joined
    assert ":smile:" in joined
    assert found.out.count("failed") == len(FOLDERS) + 1  # and in the title
    main(["status", str(sweep), "--json"])
    check_output(capsys.readouterr().out)


def test_errors(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in FOLDERS.values():
        with pytest.raises(SystemExit) as left:
            main(["status", str(sweep / f"nowhere{name}")])
        assert left.value.code == 2
        found = capsys.readouterr()
        check_output(found.err)
        assert len(found.err.splitlines()) == 1


def test_the_table_that_ends_a_sweep(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rows in sweep_rows(sweep):
        print_scores(rows, title=str(sweep))
    check_output(capsys.readouterr().out)


def test_the_report(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    report(ReportConfig(paths=[str(sweep)], out=str(out), logger=QUIET), tmp_path)
    check_output(capsys.readouterr().out)
    source = (out / "comparison.md").read_text()
    check_output(source)
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parts = [part for token in reader.parse(source) for part in token.children or []]
    assert not {part.type for part in parts} & {"link_open", "html_inline", "s_open"}
    images = [part.attrs["src"] for part in parts if part.type == "image"]
    assert set(images) == {f"figures/{file.name}" for file in (out / "figures").glob("*.png")}
    assert not (tmp_path / SENTINEL).exists()
