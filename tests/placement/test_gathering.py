from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.placement.gathering import gather_landscape
from sumcirc.placement.landscape_files import (
    Choice,
    is_landscape,
    read_landscape,
    write_landscape,
)
from sumcirc.reporting.runs import ReportRun
from sumcirc.storage.reading import RecordError
from sumcirc.storage.writing import write_json
from tests.support.landscapes import draw, landscape
from tests.support.sweeps import config, write_run, write_sweep

PAIRS = tuple(combinations(range(4), 2))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pairs of 4 layers, LoRA on all layers, and a selector, with two seeds."""
    folder = tmp_path_factory.mktemp("placement") / "pairs"
    means = {pair: 0.3 + 0.02 * i for i, pair in enumerate(PAIRS)}
    write_sweep(folder, means, seeds=(1, 2), documents=12)
    for seed in (1, 2):
        write_run(folder / f"all-s{seed}", config("all", seed), 0.5, documents=12, layers=range(4))
        run = write_run(
            folder / f"page-s{seed}",
            config(seed=seed, selector="page"),
            0.4,
            documents=12,
            layers=(2, 0) if seed == 1 else (1, 2),
        )
        rows = [{"layer": i, "score": 4.0 - i} for i in (2, 0, 1, 3)]
        write_json(run.ranking_file, {"granularity": "layer", "ranking": rows})
    return folder


def test_every_run_is_in_its_place(sweep: Path) -> None:
    found = gather_landscape([sweep])
    made = found.landscape
    assert (made.layers, made.size, made.seeds) == (4, 2, (1, 2))
    assert made.sets == PAIRS
    assert made.name == "pairs"
    for place, pair in enumerate(PAIRS):
        for row, seed in enumerate((1, 2)):
            run = ReportRun(sweep / f"tiny-{pair[0]},{pair[1]}-s{seed}")
            np.testing.assert_array_equal(made.scores["facts"][place, row], run.values["facts"])
    assert list(made.others) == ["LoRA, all layers"]
    run = ReportRun(sweep / "all-s2")
    np.testing.assert_array_equal(
        made.others["LoRA, all layers"]["rougeLsum_f1"][1], run.values["rougeLsum_f1"]
    )
    assert made.settings["model.name"] == "tiny"
    assert "adaptation.layers" not in made.settings
    assert found.choices == [Choice("page", ((0, 2), (1, 2)), (4.0, 3.0, 2.0, 1.0))]
    assert not found.notes


def test_a_stored_landscape_is_the_same(sweep: Path, tmp_path: Path) -> None:
    found = gather_landscape([sweep])
    write_landscape(found.landscape, found.choices, tmp_path)
    again, choices = read_landscape(tmp_path / "landscape.json")
    assert choices == found.choices
    assert is_landscape(tmp_path)
    assert not is_landscape(sweep)
    for name in ("name", "layers", "sets", "seeds", "documents", "settings"):
        assert getattr(again, name) == getattr(found.landscape, name)
    for name, values in found.landscape.scores.items():
        np.testing.assert_array_equal(again.scores[name], values)
    for label, scores in found.landscape.others.items():
        np.testing.assert_array_equal(again.others[label]["facts"], scores["facts"])


def test_a_sweep_that_was_cut_short_is_balanced(sweep: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(sweep, cut)
    shutil.rmtree(cut / "tiny-0,3-s2")
    found = gather_landscape([cut])
    assert found.landscape.seeds == (1,)
    assert any("seed 2 is left out: 1 of 6 sets" in note for note in found.notes)
    shutil.rmtree(cut / "tiny-0,1-s1")
    with pytest.raises(UserError, match=r"1 of the 6 sets of 2 of 4 layers .* seed 1: 0,1; give"):
        gather_landscape([cut])


def test_the_model_has_more_layers_than_the_sets(sweep: Path, tmp_path: Path) -> None:
    """All pairs of the first three layers are no landscape of a model with four."""
    cut = tmp_path / "cut"
    for pair in combinations(range(3), 2):
        for seed in (1, 2):
            name = f"tiny-{pair[0]},{pair[1]}-s{seed}"
            shutil.copytree(sweep / name, cut / name)
    assert gather_landscape([cut]).landscape.layers == 3
    shutil.copytree(sweep / "all-s1", cut / "all-s1")
    with pytest.raises(UserError, match="3 of the 6 sets of 2 of 4 layers"):
        gather_landscape([cut])


def test_other_sizes_have_to_be_named(sweep: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(sweep, both)
    write_sweep(both, {(i,): 0.3 for i in range(4)}, seeds=(1, 2), documents=12)
    with pytest.raises(UserError, match=r"all sets of 1 and of 2 layers; .* size=1"):
        gather_landscape([both])
    assert gather_landscape([both], size=1).landscape.sets == ((0,), (1,), (2,), (3,))
    found = gather_landscape([both], size=2)
    assert "layers 0" in found.landscape.others
    with pytest.raises(UserError, match="no runs with named sets of 3 layers"):
        gather_landscape([both], size=3)


def test_two_rates_are_two_landscapes(sweep: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(sweep, both)
    for pair in PAIRS:
        settings = config(list(pair), 1, optimizer__learning_rate=0.5)
        write_run(both / f"fast-{pair[0]},{pair[1]}-s1", settings, 0.4, documents=12)
    with pytest.raises(UserError, match=r"2 layers twice, with different optimizer.learning_rate"):
        gather_landscape([both])


def test_a_sweep_without_sets_is_refused(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", {"all": 0.3, "page": 0.4}, documents=12)
    with pytest.raises(UserError, match=r"has no runs with named sets, .* make placement"):
        gather_landscape([tmp_path / "s"])


def test_choices_outside_of_the_landscape_are_noted(sweep: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(sweep, other)
    settings = config(seed=1, selector="fisher")
    write_run(other / "fisher-s1", settings, 0.4, documents=12, layers=(0, 1, 2))
    file = other / "page-s1/ranking.json"
    write_json(file, {"granularity": "layer", "ranking": [{"layer": 0, "score": 1.0}]})
    found = gather_landscape([other])
    assert [choice.name for choice in found.choices] == ["page"]
    assert found.choices[0].scores is None
    assert any("fisher-s1: chose layers 0,1,2" in note for note in found.notes)
    assert any("no score for each of the 4 layers" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 99}, "layers"),
        ({"size": 6}, "size"),
        ({"seeds": [1, 2]}, "3, which landscape.json doesn't list"),
        ({"seeds": [1, 2, 3, 4]}, "0 rows of a document of layers 0,1,2, seed 4"),
        ({"others": ["all"]}, "0 rows of a document of layers all, seed 1"),
        ({"choices": {"page": {"sets": [["a"]]}}}, "choices.page.sets"),
    ],
)
def test_damaged_landscapes_are_refused(tmp_path: Path, change: object, message: str) -> None:
    made = landscape(draw([0.0] * 20, documents=9))
    write_landscape(made, [], tmp_path)
    file = tmp_path / "landscape.json"
    body = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**body, **change}), encoding="utf-8")  # type: ignore[dict-item]
    with pytest.raises(RecordError, match=message):
        read_landscape(tmp_path)
