"""`sumcirc placement` on single modules and on single layers, from the command to the files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sumcirc.errors import UserError
from sumcirc.jobs import placement
from sumcirc.placement.landscape_files import Choice, read_landscape
from sumcirc.schema import MODULES
from tests.jobs.test_placement import composed, refusal, show
from tests.support.landscapes import write_example, write_modules
from tests.support.sweeps import config, write_run, write_sweep

SELECTORS = """
from sumcirc.selection.scores import rule


def late_kinds(context):
    return rule([[m - layer for m in range(4)] for layer in range(context.layers)], "late kinds")


def early(context):
    return rule([-layer for layer in range(context.layers)], "early layers")
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landscape of the built-in model's modules with made-up scores; 0.mlp_out is the best."""
    return write_modules(tmp_path_factory.mktemp("landscape") / "modules")


def test_a_sweep_becomes_a_landscape_of_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    sweep = tmp_path / "modules"
    for layer in range(3):
        for place, module in enumerate(MODULES):
            for seed in (1, 2):
                settings = config([layer], seed, adaptation__modules=[module])
                mean = 0.3 + 0.03 * layer + 0.02 * place
                write_run(sweep / f"{layer}-{module}-s{seed}", settings, mean, documents=12)
    text = show(capsys, str(sweep), "metric=rougeLsum")
    assert "12 single modules of 3 layers, 2 seeds, 12 documents; ROUGE-Lsum x 100" in text
    assert "do layer and kind add up?" in text
    out = sweep / "placement"
    body = json.loads((out / "placement.json").read_text(encoding="utf-8"))
    assert body["sets"][0]["units"] == ["2.mlp_out"]
    assert [one["name"] for one in body["terms"]] == ["layers", "kinds", "layer x kind"]
    assert [one["name"] for one in body["effects"]] == ["0", "1", "2", *MODULES]
    landscape, _ = read_landscape(out)
    assert landscape.modules == MODULES
    table = (out / "sets.csv").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("modules,mean,deviation,low,high,rank")
    assert table[1].startswith("2.mlp_out,")
    assert {file.stem for file in (out / "figures").glob("*.png")} == {"sets", "layers", "modules"}
    assert "**all single modules**" in (out / "placement.md").read_text(encoding="utf-8")
    again = show(capsys, str(out), "metric=rougeLsum", f"out={tmp_path / 'again'}")
    assert again.partition("in words")[0] == text.partition("in words")[0]


def test_a_written_module_has_its_place(stored: Path, capsys: Any) -> None:
    text = show(capsys, str(stored), "score=[0.mlp_out]")
    assert "[0.mlp_out] chooses modules 0.mlp_out: rank 1 of 24, skill 1.00" in text
    assert "a random module is at least as good with probability 0.042" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["score=[0]"],
            "score=[0]: chose layers [0], but the landscape has single modules; choose",
        ),
        (["score=[0.qkv,1.qkv]"], "so a choice of 2 has no place in it; choose 1"),
        (["score=[6.qkv]"], "layer 6 is out of range, the model has 6 layers, 0 to 5"),
        (["score=[0.mlp]"], "0.mlp: no such module is in it, only qkv, attn_out, mlp_in, mlp_out"),
        (["score=[0.qkv,1]"], "modules are written with their layer, such as score=[0.qkv]"),
        (["score=[qkv]"], "modules are written with their layer, such as score=[0.qkv]"),
        (["score=0.qkv"], "score=0.qkv: is no selector; choose from"),
        (["granularity=layer"], "granularity=layer: "),
        (["size=3"], "has single modules; leave size= out"),
        (["granularity=module", "size=2"], "size=2: is a number of layers, and single modules"),
    ],
)
def test_mistakes_are_named(stored: Path, words: list[str], message: str) -> None:
    try:
        said = refusal(str(stored), *words)
    except UserError as error:  # refused before there is a job
        said = str(error)
    assert message in said


def test_modules_and_layers_are_not_compared(stored: Path, tmp_path: Path) -> None:
    layers = write_example(tmp_path / "layers")
    said = refusal(str(layers), "score=[0.qkv]")
    assert "chose modules [0.qkv], but the landscape has sets of 3 layers; choose from" in said
    said = refusal(str(layers), f"against={stored}")
    assert f"against={stored}: has single modules (qkv, attn_out, mlp_in, mlp_out), example" in said
    assert "granularity=module: " in refusal(str(layers), "granularity=module")


def test_landscapes_of_modules_are_compared(
    stored: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    other = write_modules(tmp_path / "other", "other", rng=2)
    out = tmp_path / "out"
    text = show(capsys, str(stored), f"against={other}", f"out={out}")
    assert "│ page │ 0.mlp_out │ 1 │ 1.00 │ 0.mlp_out │" in text
    body = json.loads((out / "placement.json").read_text(encoding="utf-8"))
    assert set(body["pairs"][0]["effects"]) == {"layers", "kinds"}
    assert body["modules"] == list(MODULES)
    assert (out / "figures/landscapes-1-2.png").stat().st_size > 5000


def test_a_selector_of_the_package_is_asked_for_modules(stored: Path, capsys: Any) -> None:
    """KappaTune's rule on the built-in model: one module of 24, and a score for each."""
    text = show(capsys, str(stored), "score=kappa", f"out={stored.parent / 'kappa'}")
    assert re.search(r"kappa chooses modules \d\.[a-z_]+: rank", text)
    _, choices = read_landscape(stored.parent / "kappa")
    assert choices[-1].name == "kappa"
    scores = choices[-1].scores
    assert scores is not None
    assert len(set(scores)) == 24
    assert choices[-1].sets == ((scores.index(max(scores)),),)


def test_a_selector_that_scores_layers_chooses_each_of_their_modules(
    stored: Path, tmp_path: Path, capsys: Any
) -> None:
    show(capsys, str(stored), "score=last", f"out={tmp_path / 'last'}")
    _, choices = read_landscape(tmp_path / "last")
    assert choices[-1].sets == ((20,), (21,), (22,), (23,))
    found = composed("placement", str(stored), "score=attention_kl")
    placement.check(found)
    with pytest.raises(UserError, match="selector=attention_kl: scores whole layers, not their"):
        placement.run(found, Path())


def test_a_selector_of_your_own_scores_modules(stored: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SELECTORS, encoding="utf-8")
    text = show(capsys, str(stored), f"score={file}:late_kinds", f"out={tmp_path / 'out'}")
    assert "chooses modules 0.mlp_out: rank 1 of 24" in text
    _, choices = read_landscape(tmp_path / "out")
    scores = tuple(float(m - layer) for layer in range(6) for m in range(4))
    assert choices[-1].sets == ((3,),)
    assert choices[-1].scores == scores
    found = composed("placement", str(stored), f"score={file}:early")
    placement.check(found)
    with pytest.raises(UserError) as caught:
        placement.run(found, Path())
    assert str(caught.value) == (
        f"score={file}:early: early scores whole layers, and the landscape has single modules;"
        " return [6 layers, 4 modules, samples]"
    )


def test_modules_of_other_names_are_written_only(stored: Path, tmp_path: Path, capsys: Any) -> None:
    """The model's own names can be trained, but no selector scores them."""
    other = tmp_path / "other"
    shutil.copytree(stored, other)
    body = json.loads((other / "landscape.json").read_text(encoding="utf-8"))
    for place, name in enumerate(MODULES):
        body["modules"][place] = f"m.{name}"
    body["choices"] = {}
    (other / "landscape.json").write_text(json.dumps(body), encoding="utf-8")
    _rename(other / "landscape.parquet")
    assert "rank 1 of 24" in show(capsys, str(other), "score=[0.m.mlp_out]")
    assert "selectors score qkv, attn_out, mlp_in, mlp_out, and modules has m.qkv; give" in refusal(
        str(other), "score=kappa"
    )


def _rename(file: Path) -> None:
    import pyarrow.parquet as parquet

    from sumcirc.storage.writing import write_table

    rows = parquet.read_table(file).to_pylist()
    for row in rows:
        if "." in row["modules"]:
            row["modules"] = row["modules"].replace(".", ".m.")
    write_table(file, rows)


def test_single_layers_are_a_landscape(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    sweep = write_sweep(
        tmp_path / "single", {(i,): 0.3 + 0.05 * i for i in range(4)}, (1, 2), documents=12
    )
    write_run(sweep / "page", config(seed=1, selector="page"), 0.4, documents=12, layers=(3,))
    text = show(capsys, str(sweep), "metric=rougeLsum")
    assert "4 single layers, 2 seeds, 12 documents" in text
    assert "add up" not in text
    assert not re.search(r"\bsets?\b", text)
    out = sweep / "placement"
    body = json.loads((out / "placement.json").read_text(encoding="utf-8"))
    assert (body["terms"], body["effects"], body["predictions"]) == ([], [], [])
    assert body["sets"][0]["units"] == [3]
    _, choices = read_landscape(out)
    assert choices == [Choice("page", ((3,),), None)]
    assert {file.stem for file in (out / "figures").glob("*.png")} == {"sets"}
    assert "rank 1 of 4" in show(capsys, str(out), "score=[3]", "metric=rougeLsum")
