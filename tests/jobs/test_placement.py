"""`sumcirc placement`: the landscape of a sweep, what it writes, and choices judged by it."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.jobs import placement
from sumcirc.placement.landscape import all_sets
from sumcirc.placement.landscape_files import Choice, read_landscape
from sumcirc.schema import configuration
from tests.support.landscapes import write_example
from tests.support.sweeps import config, write_run, write_sweep

SETS = all_sets(6, 3)
GOOD = """
from sumcirc.selection.scores import rule


def early(context):
    return rule([-layer for layer in range(context.layers)], "early layers")


def _helper():
    pass
"""
BAD = """
from sumcirc.selection.scores import rule


def raises(context):
    return {}["layers"]


def a_list(context):
    return [1, 2, 3]


def too_short(context):
    return rule([1, 2], "two layers")


def not_a_number(context):
    return rule([float("nan")] * context.layers, "nothing")
"""


def composed(verb: str, *words: str) -> Any:
    configuration.register()
    (found,) = command.compose(command.read(verb, words))
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landscape of the built-in model with made-up scores; the first layers are the best."""
    return write_example(tmp_path_factory.mktemp("landscape") / "example")


def show(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    found = composed("placement", *words)
    placement.check(found)
    placement.run(found, Path())
    return " ".join(capsys.readouterr().out.split())


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        placement.check(composed("placement", *words))
    return str(caught.value)


def test_a_sweep_becomes_a_landscape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    sweep = tmp_path / "pairs"
    pairs = list(combinations(range(4), 2))
    write_sweep(sweep, {p: 0.3 + 0.03 * i for i, p in enumerate(pairs)}, (1, 2), documents=12)
    write_run(sweep / "page", config(seed=1, selector="page"), 0.4, documents=12, layers=(2, 3))
    text = show(capsys, str(sweep), "metric=rougeLsum")
    assert "6 sets of 2 of 4 layers, 2 seeds, 12 documents; ROUGE-Lsum x 100" in text
    assert "all sets of 2 layers" in text
    assert "page" in text
    out = sweep / "placement"
    body = json.loads((out / "placement.json").read_text(encoding="utf-8"))
    assert [one["rank"] for one in body["sets"]] == [1, 2, 3, 4, 5, 6]
    assert body["selectors"][0]["name"] == "page"
    landscape, choices = read_landscape(out)
    assert landscape.sets == tuple(pairs)
    assert choices == [Choice("page", ((2, 3),), None)]
    page = (out / "placement.md").read_text(encoding="utf-8")
    assert page.startswith("# Landscape of pairs\n\n- 6 sets of 2 of 4 layers, 2 seeds")
    assert "**selectors**" in page
    table = (out / "sets.csv").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("layers,mean,deviation,low,high,rank")
    assert len(table) == 7
    for name in ("sets", "layers"):
        assert (out / f"figures/{name}.png").stat().st_size > 5000
    assert "is no such score" not in text
    # the stored landscape says the same
    again = show(capsys, str(out), "metric=rougeLsum", f"out={tmp_path / 'again'}")
    assert again.partition("in words")[0] == text.partition("in words")[0]


def test_the_conclusions_in_words(stored: Path, tmp_path: Path, capsys: Any) -> None:
    text = show(capsys, str(stored), f"out={tmp_path}")
    assert "variance of a run's mean:" in text
    assert "sets can't be told from the best" in text
    assert "that layers don't simply add up was not shown" in text
    assert "LoRA, all layers minus the mean of all sets: +3" in text
    assert "of 2 selectors that chose at random, one would pick the best set in 10 %" in text


def test_a_list_of_layers_has_its_place(stored: Path, capsys: Any) -> None:
    before = sorted(path.name for path in stored.iterdir())
    text = show(capsys, str(stored), "score=[2,1,0]")
    assert "[2,1,0] chooses layers 0,1,2: rank 1 of 20, skill 1.00" in text
    assert "with probability 0.05, which can't be below 0.05" in text
    assert sorted(path.name for path in stored.iterdir()) == before  # nothing is written
    text = show(capsys, str(stored), "score=[3,4,5]")
    assert "rank 20 of 20, skill -" in text


def test_a_selector_of_your_own_is_run(stored: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "my_selector.py"
    file.write_text(GOOD, encoding="utf-8")
    text = show(capsys, str(stored), f"score={file}", f"out={tmp_path / 'out'}")
    assert "my_selector chooses layers 0,1,2: rank 1 of 20" in text
    _, choices = read_landscape(tmp_path / "out")
    assert choices[-1] == Choice("my_selector", ((0, 1, 2),), (0, -1, -2, -3, -4, -5))


def test_a_selector_of_the_package_is_run(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = show(capsys, str(stored), "score=last")
    assert "last chooses layers 3,4,5: rank 20 of 20" in text
    assert text.count("│ last │") == 1  # the stored choice of the same name is left out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "raises raised KeyError: 'layers' (line 6 of bad.py); SUMCIRC_TRACEBACK=1"),
        ("a_list", "a_list gave a list; return a `Scores`"),
        ("too_short", "too_short gave values of shape [2, 1, 1]; return [6 layers"),
        ("not_a_number", "not_a_number gave values that are empty, NaN or infinite"),
    ],
)
def test_a_selector_that_fails_is_one_line(
    stored: Path, tmp_path: Path, name: str, message: str
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(BAD, encoding="utf-8")
    found = composed("placement", str(stored), f"score={file}:{name}")
    placement.check(found)
    with pytest.raises(UserError) as caught:
        placement.run(found, Path())
    assert str(caught.value).startswith(f"score={file}:{name}: {message}")


def test_files_that_are_no_selectors_are_refused(stored: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(BAD, encoding="utf-8")
    named = f"score={file}"
    assert "it has raises, a_list, too_short, not_a_number" in refusal(str(stored), named)
    assert "defines no such function" in refusal(str(stored), f"{named}:gone")
    assert "no such file" in refusal(str(stored), f"score={tmp_path}/gone.py")
    file.write_text("import nothing_of_this_name\n", encoding="utf-8")
    assert "can't be run (ModuleNotFoundError" in refusal(str(stored), named)
    file.write_text("x = 1\n", encoding="utf-8")
    assert "it has none" in refusal(str(stored), named)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score=[0,1]"], "score=[0,1]: chose layers [0,1]; the landscape has sets of 3 layers"),
        (["score=[0,1,6]"], "layer 6 is out of range, the model has 6 layers, 0 to 5"),
        (["score=[0,1,1]"], "a layer is named twice"),
        (["score=[a,b,c]"], "layers are whole numbers from 0"),
        (["score=pag"], "score=pag: is no selector; choose from"),
        (["documents=8"], "documents=8: has no effect without a selector that is scored"),
        (["threads=1", "score=[0,1,2]"], "threads=1: has no effect without a selector"),
        (["score=all"], "score=all: chooses no layers by itself; give"),
        (["score=3"], "score=3: give layers such as score=[2,3,5]"),
        (["metric=rouge1"], "metric=rouge1: example has no such score; choose from facts"),
        (["size=2"], "size=2: "),
    ],
)
def test_mistakes_are_named(stored: Path, words: list[str], message: str) -> None:
    assert message in refusal(str(stored), *words)


def test_paths_that_have_no_landscape_are_refused(stored: Path, tmp_path: Path) -> None:
    assert "name a sweep or a stored landscape" in refusal()
    assert "no such directory" in refusal(str(tmp_path / "gone"))
    other = tmp_path / "other"
    shutil.copytree(stored, other)
    assert "is a stored landscape; give it alone" in refusal(str(stored), str(other))
    (other / "landscape.json").write_text("{}", encoding="utf-8")
    assert "landscape.json" in refusal(str(other))


def test_a_landscape_without_settings_judges_lists_only(
    stored: Path, tmp_path: Path, capsys: Any
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(stored, bare)
    body = json.loads((bare / "landscape.json").read_text(encoding="utf-8"))
    (bare / "landscape.json").write_text(json.dumps({**body, "settings": {}}), encoding="utf-8")
    assert "doesn't say with which model and data" in refusal(str(bare), "score=page")
    assert "rank 1 of 20" in show(capsys, str(bare), "score=[0,1,2]")


def test_landscapes_are_compared(
    stored: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    other = write_example(tmp_path / "other", "other", rng=2, seeds=1)
    out = tmp_path / "out"
    text = show(capsys, str(stored), f"against={other}", f"out={out}")
    assert "what pays in one landscape and in another" in text
    assert "other: 1 seed, 20 documents" in text
    assert "other has one seed, so what differs between seeds is in no interval" in text
    assert "│ page │ 0,1,2 │ 1 │ 1.00 │ 0,1,2 │" in text
    body = json.loads((out / "placement.json").read_text(encoding="utf-8"))
    (pair,) = body["pairs"]
    assert pair["sets"]["low"] < pair["sets"]["spearman"] <= 1
    assert body["selectors"]["page"]["overall"]["landscapes"] == 2
    page = (out / "placement.md").read_text(encoding="utf-8")
    assert page.startswith("# Landscapes example, other\n\n- example: 3 seeds, 20 documents")
    for name, lines in (("sets", 21), ("landscapes", 3), ("selectors", 3)):
        assert len((out / f"{name}.csv").read_text(encoding="utf-8").splitlines()) == lines
    assert (out / "figures/landscapes-1-2.png").stat().st_size > 5000
    assert not (stored / "against").exists()
    assert f"against={stored}: has the same scores as example" in refusal(
        str(stored), f"against={stored}"
    )
    third = write_example(tmp_path / "third", "third", rng=3, seeds=2)
    show(capsys, str(stored), f"against=[{other},{third}]", f"out={out}")
    assert len(json.loads((out / "placement.json").read_text(encoding="utf-8"))["pairs"]) == 3
    names = {file.stem for file in (out / "figures").glob("*.png")}
    assert names == {"landscapes-1-2", "landscapes-1-3", "landscapes-2-3"}
    assert "against=[0,1,2]" not in refusal(str(stored), f"against={tmp_path}/gone")
    assert "score=last: is judged by one landscape" in refusal(
        str(stored), f"against={other}", "score=last"
    )
