"""The page of a run and of a sweep: sections where records are, gaps where not, inert text."""

from __future__ import annotations

import json
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sumcirc.reporting.comparison import ComparisonOptions, compare
from sumcirc.reporting.page.blocks import ChartBlock
from sumcirc.reporting.page.build import html, make_page, write_page
from sumcirc.reporting.runs import gather, read_runs, run_folders
from sumcirc.tracking.run_records import RunRecords
from tests.support.pages import HOSTILE, full_run
from tests.support.sweeps import config, write_run, write_sweep


class Parsed(HTMLParser):
    """Tags with attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and self.cdata_elem:
            self.raw.append(data)
        else:
            self.text += data


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    run = full_run(tmp_path_factory.mktemp("s") / "r", HOSTILE)
    return Parsed(html(make_page([RunRecords(run.path)], None, "sumcirc report r"), 1))


def test_a_run_with_all_records_has_all_sections(tmp_path: Path) -> None:
    page = make_page([RunRecords(full_run(tmp_path / "s/r").path)], None, "sumcirc report r")
    assert [section.id for section in page.sections] == [
        *("short", "origin", "scores", "training", "heads", "layers", "neurons"),
        *("circuit", "examples", "page"),
    ]
    assert page.gaps == []


def test_what_is_not_recorded_is_a_gap_with_a_command(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s/a b", config(), 0.4)
    page = make_page([RunRecords(run.path)], None, "sumcirc report r")
    assert not {"heads", "circuit", "neurons"} & {section.id for section in page.sections}
    commands = [shlex.split(gap.command) for gap in page.gaps]
    assert ["sumcirc", "circuit", f"checkpoint={run.path}"] in commands
    assert any("callbacks=default" in words for words in commands)


def test_a_run_that_failed_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s/r", config(), 0.4, state="failed", reason="out of\nmemory")
    (gap, *_) = make_page([RunRecords(run.path)], None, "c").gaps
    assert gap.what == "r: failed: out of memory"
    assert gap.command == f"sumcirc train resume={run.path}"


def test_nothing_in_text_is_markup(parsed: Parsed) -> None:
    assert not any(tag in ("img", "b", "iframe", "object", "link") for tag, _ in parsed.tags)
    handlers = [name for _, attributes in parsed.tags for name in attributes if name[:2] == "on"]
    assert handlers == []
    assert "<script>window.hacked=1</script>" in parsed.text
    assert "\\u202egnitsil\\u202c bell\\x07 line\\u2028end {{ 7*7 }}" in parsed.text
    assert "\u202e" not in parsed.text


def test_only_known_scripts_run_and_nothing_is_fetched(parsed: Parsed) -> None:
    kinds = [attributes.get("type") for tag, attributes in parsed.tags if tag == "script"]
    assert kinds.count(None) == 3
    assert set(kinds) == {None, "application/json"}
    fetched = {"src", "href", "action", "srcset"}
    links = [a[name] for _, a in parsed.tags for name in fetched & a.keys()]
    assert links
    assert all(link and link.startswith("#") for link in links)
    (policy,) = [a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split(";")[1]


def test_charts_tables_and_sliders_are_named(parsed: Parsed) -> None:
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(ids) == len(set(ids))
    labelled = {a["for"] for tag, a in parsed.tags if tag == "label"}
    controls = [a for tag, a in parsed.tags if tag in ("input", "select")]
    assert len(controls) >= 4
    assert {a["id"] for a in controls} <= labelled
    plots = [a for tag, a in parsed.tags if a.get("class") == "plot"]
    assert all(a["role"] == "img" and a["aria-label"] for a in plots)
    assert all(a.get("scope") for tag, a in parsed.tags if tag == "th")
    assert ("a", {"class": "skip", "href": "#content"}) in parsed.tags


def test_frames_fit_their_sliders(tmp_path: Path) -> None:
    page = make_page([RunRecords(full_run(tmp_path / "s/r").path)], None, "c")
    charts = [b for section in page.sections for b in section.blocks if isinstance(b, ChartBlock)]
    moved = [chart for chart in charts if chart.slider]
    for chart in moved:
        frames = chart.circuit["frames"] if chart.circuit else chart.frames
        assert len(frames) == len(chart.slider.names if chart.slider else ())
    # three checkpoints, and what changed between them
    assert sorted(len(chart.slider.names) for chart in moved if chart.slider) == [2, 3, 3, 3, 3]
    kl = next(chart for chart in charts if "far attention" in chart.title)
    assert kl.frames[-1][0]["z"][1][1] == pytest.approx(1.405, abs=0.01)
    assert "layer 1, head 1" in kl.alt
    assert json.loads(kl.data())["figure"]["data"][0]["type"] == "heatmap"


def test_a_sweep_shows_one_run_of_each_arm_inside(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"random": 0.4, (0,): 0.6}, noise=0.01)
    folders = run_folders(tmp_path / "s")
    found = compare(*read_runs([tmp_path / "s"]), ComparisonOptions())
    page = make_page([RunRecords(folder) for folder in folders], found, "sumcirc report s")
    sections = {section.id: section for section in page.sections}
    assert {"runs", "bakeoff", "settings"} <= sections.keys()
    assert [variant.name for variant in sections["scores"].variants] == [
        *("tiny-0-s1", "tiny-random-s1"),
    ]
    assert any("4 others" in gap.what for gap in page.gaps)


def test_thirty_runs_are_small(tmp_path: Path) -> None:
    for i in range(30):
        full_run(tmp_path / f"s/r{i}")
    write_page(gather([tmp_path / "s"]), None, "sumcirc report s", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 8e6


def test_a_circuit_found_afterwards_is_no_gap(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s/r", config(), 0.4)
    settings = {**config(), "checkpoint": str(run.path)}
    found = write_run(tmp_path / "s/c", settings, 0.4, state="failed", verb="circuit")
    page = make_page([RunRecords(run.path), RunRecords(found.path)], None, "c")
    assert not any("circuit was not tracked" in gap.what for gap in page.gaps)


def test_data_without_a_size_are_all_of_the_split(tmp_path: Path) -> None:
    settings = config()
    settings["data"] |= {"train": "a.jsonl", "test": None, "sizes": {"train": None, "test": None}}
    run = write_run(tmp_path / "s/r", settings, 0.4)
    facts = dict(
        row[:2]
        for section in make_page([RunRecords(run.path)], None, "c").sections
        if section.id == "origin"
        for block in section.blocks
        if block.kind == "table"
        for row in block.table.rows
    )
    assert "None" not in facts["data"]
    assert "test" not in facts["data"]
