"""The census of single modules in a sweep, beside whole layers and what selectors chose."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.placement.gathering import gather_landscape
from sumcirc.placement.landscape_files import Choice, read_landscape, write_landscape
from sumcirc.reporting.runs import ReportRun
from sumcirc.schema import MODULES, Granularity
from sumcirc.storage.writing import write_json
from tests.support.sweeps import config, write_run, write_sweep

SEEDS = 1, 2
BUDGET: dict[str, Any] = {"adaptation__budget": 24576, "adaptation__rank": None}


def write_module(folder: Path, layer: int, module: str, seed: int, **changes: Any) -> None:
    settings = config([layer], seed, **{"adaptation__modules": [module], **BUDGET, **changes})
    size = 24320 if module.startswith("mlp") else 24576
    mean = 0.3 + 0.02 * layer + 0.01 * MODULES.index(module)
    write_run(folder, settings, mean, documents=12, parameters=size)


def write_choice(
    folder: Path, seed: int, scores: dict[tuple[int, str], float], verb: str = "train"
) -> None:
    """A run whose selector, at the grain of modules, chose the module with the largest score."""
    best = max(scores, key=scores.__getitem__)
    settings = config(seed=seed, selector="page", adaptation__granularity="module", **BUDGET)
    run = write_run(folder, settings, 0.4, documents=12, parameters=24576, layers=[best[0]])
    rows = [
        {"layer": i, "module": m, "score": scores[i, m], "chosen": (i, m) == best}
        for i, m in sorted(scores, key=lambda one: -scores[one])
    ]
    write_json(run.ranking_file, {"granularity": "module", "ranking": rows})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All modules of 3 layers, single layers and LoRA on all layers, and a selector, two seeds."""
    folder = tmp_path_factory.mktemp("placement") / "modules"
    for seed in SEEDS:
        for layer in range(3):
            for module in MODULES:
                write_module(folder / f"{layer}-{module}-s{seed}", layer, module, seed)
            settings = config([layer], seed, **BUDGET)
            write_run(
                folder / f"layer{layer}-s{seed}", settings, 0.4, documents=12, parameters=24576
            )
        settings = config("all", seed, **BUDGET)
        options: dict[str, Any] = {"documents": 12, "parameters": 24576, "layers": range(3)}
        write_run(folder / f"all-s{seed}", settings, 0.5, **options)
        scores = {(i, m): float(10 * i + k) for i in range(3) for k, m in enumerate(MODULES)}
        write_choice(folder / f"page-s{seed}", seed, scores | {(1, "qkv"): 30.0 * (seed - 1)})
    return folder


def test_every_module_is_in_its_place(sweep: Path) -> None:
    found = gather_landscape([sweep])
    made = found.landscape
    assert (made.layers, made.modules, made.size, made.seeds) == (3, MODULES, 1, SEEDS)
    for place, name in enumerate(made.units.names):
        layer, _, module = str(name).partition(".")
        for row, seed in enumerate(SEEDS):
            run = ReportRun(sweep / f"{layer}-{module}-s{seed}")
            np.testing.assert_array_equal(made.scores["facts"][place, row], run.values["facts"])
    assert set(made.others) == {"LoRA, all layers", "layers 0", "layers 1", "layers 2"}
    run = ReportRun(sweep / "layer1-s2")
    np.testing.assert_array_equal(made.others["layers 1"]["facts"][1], run.values["facts"])
    assert made.settings["adaptation.budget"] == 24576
    assert "adaptation.modules" not in made.settings
    scores = [0, 1, 2, 3, 0, 11, 12, 13, 20, 21, 22, 23]
    assert found.choices == [Choice("page", ((11,), (4,)), tuple(map(float, scores)))]
    assert found.notes == [
        "all single layers were trained as well; granularity=layer shows their landscape"
    ]


def test_single_layers_of_the_same_sweep(sweep: Path) -> None:
    found = gather_landscape([sweep], granularity=Granularity.layer, size=1)
    assert found.landscape.sets == ((0,), (1,), (2,))
    assert found.landscape.modules == ()
    run = ReportRun(sweep / "layer1-s2")
    np.testing.assert_array_equal(found.landscape.scores["facts"][1, 1], run.values["facts"])
    assert "layers 0 modules=mlp_in" in found.landscape.others
    assert len(found.landscape.others) == 13
    assert found.choices == []
    assert any(
        "page-s2: chose modules 1.qkv, which are no layer of this landscape" in note
        for note in found.notes
    )


def test_a_stored_landscape_is_the_same(sweep: Path, tmp_path: Path) -> None:
    found = gather_landscape([sweep])
    write_landscape(found.landscape, found.choices, tmp_path)
    again, choices = read_landscape(tmp_path)
    assert choices == found.choices
    for name in ("name", "layers", "modules", "sets", "seeds", "documents", "settings"):
        assert getattr(again, name) == getattr(found.landscape, name)
    for name, values in found.landscape.scores.items():
        np.testing.assert_array_equal(again.scores[name], values)


@pytest.fixture
def copy(sweep: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies the sweep without some runs."""

    def copied(*without: str) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(sweep, folder)
        for pattern in without:
            for run in folder.glob(pattern):
                shutil.rmtree(run)
        return folder

    return copied


def test_missing_modules_are_named(copy: Callable[..., Path]) -> None:
    folder = copy("0-qkv-s2")
    found = gather_landscape([folder])
    assert found.landscape.seeds == (1,)
    assert (
        "seed 2 is left out: 1 of 12 single modules of 3 layers have no finished run with it"
        in found.notes
    )
    shutil.rmtree(folder / "2-mlp_in-s1")
    message = "1 of the 12 single modules of 3 layers have no finished run with seed 1: 2.mlp_in;"
    with pytest.raises(UserError, match=message):
        gather_landscape([folder])


def test_a_census_that_lacks_a_module_in_all_seeds(copy: Callable[..., Path]) -> None:
    folder = copy("2-mlp_in-s*", "layer*")
    with pytest.raises(
        UserError, match=r"1 of the 12 single modules .* with seed 1: 2\.mlp_in; give"
    ):
        gather_landscape([folder])


def test_kinds_that_were_not_trained_are_no_units(copy: Callable[..., Path]) -> None:
    folder = copy("*-mlp_in-*", "*-qkv-*", "layer*")
    found = gather_landscape([folder])
    assert found.landscape.modules == ("attn_out", "mlp_out")
    assert found.landscape.units.names[3] == "1.mlp_out"
    assert found.choices == [Choice("page", ((5,),), None)]
    assert any("page-s2: chose modules 1.qkv" in note for note in found.notes)
    assert any("no score for each of the 6 modules" in note for note in found.notes)


def test_one_kind_alone_is_a_landscape_of_layers(copy: Callable[..., Path]) -> None:
    folder = copy("*-mlp*", "*-attn_out-*", "layer*")
    found = gather_landscape([folder])
    assert found.landscape.modules == ()
    assert found.landscape.settings["adaptation.modules"] == ["qkv"]
    with pytest.raises(UserError, match="no runs with one named module each"):
        gather_landscape([folder], granularity=Granularity.module)


def test_single_modules_are_no_sets_of_layers(copy: Callable[..., Path]) -> None:
    folder = copy("layer*")
    message = "has single modules, and no such sets of layers; leave out size=2$"
    with pytest.raises(UserError, match=message):
        gather_landscape([folder], size=2)
    with pytest.raises(UserError, match=r"leave out size=1 and granularity=layer$"):
        gather_landscape([folder], size=1, granularity=Granularity.layer)


def test_sets_of_two_kinds_of_module_are_two_landscapes(tmp_path: Path) -> None:
    for module in MODULES[:2]:
        for pair in ((0, 1), (0, 2), (1, 2)):
            settings = config(list(pair), 1, adaptation__modules=[module])
            name = f"{module}-{pair[0]}-{pair[1]}"
            write_run(tmp_path / name, settings, 0.4, documents=12)
    message = "all sets of 2 layers twice, with different adaptation.modules; give the sweeps one"
    with pytest.raises(UserError, match=message):
        gather_landscape([tmp_path])


def test_two_rates_are_two_landscapes(copy: Callable[..., Path]) -> None:
    folder = copy("layer*")
    for layer in range(3):
        for module in MODULES:
            rate = {"optimizer__learning_rate": 0.5}
            write_module(folder / f"fast-{layer}-{module}", layer, module, 1, **rate)
    message = "all single modules twice, with different optimizer.learning_rate"
    with pytest.raises(UserError, match=message):
        gather_landscape([folder])


def test_sets_with_another_budget_have_to_be_named(sweep: Path, tmp_path: Path) -> None:
    pairs = {(0, 1): 0.3, (0, 2): 0.4, (1, 2): 0.5}
    other = write_sweep(tmp_path / "pairs", pairs, SEEDS, documents=12)
    message = (
        "has all single modules, and all sets of 2 layers with other settings; say which are meant"
        " with granularity=module or granularity=layer"
    )
    with pytest.raises(UserError, match=message):
        gather_landscape([sweep, other])
    found = gather_landscape([sweep, other], granularity=Granularity.module)
    assert found.landscape.modules == MODULES
    assert any("layers 0,1 can't be compared: another budget" in note for note in found.notes)
    found = gather_landscape([sweep, other], size=2)
    assert found.landscape.sets == tuple(pairs)


def test_unequal_sizes_are_told(copy: Callable[..., Path]) -> None:
    folder = copy("layer*")
    assert not any("trainable parameters differ" in one for one in gather_landscape([folder]).notes)
    for layer in range(3):
        for seed in SEEDS:
            file = folder / f"{layer}-attn_out-s{seed}/summary.json"
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace("24576", "12288"), encoding="utf-8")
    notes = gather_landscape([folder]).notes
    assert any("trainable parameters differ, from 12,288 to 24,576" in note for note in notes)


def test_a_choice_whose_ranking_is_lost_is_left_out(copy: Callable[..., Path]) -> None:
    folder = copy("layer*")
    (folder / "page-s1/ranking.json").unlink()
    rows = [{"layer": 0, "module": "qkv", "score": 1.0}]
    write_json(folder / "page-s2/ranking.json", {"granularity": "module", "ranking": rows})
    found = gather_landscape([folder])
    assert found.choices == []
    assert any(note.startswith("page-s1: ") and "is left out" in note for note in found.notes)
    assert any("doesn't say which modules were chosen" in note for note in found.notes)
