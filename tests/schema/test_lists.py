"""A list of the schema may be given by its only element, wherever it comes from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from sumcirc import schema
from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.schema import configuration
from sumcirc.schema.lists import list_elements
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain, stored_config

configuration.register()

# what makes a dataclass with one list set consistent
BESIDE: dict[type, dict[str, Any]] = {
    schema.SelectorConfig: {"name": schema.SelectorName.fixed},
    schema.AdaptationConfig: {"kind": schema.Adaptation.lora, "rank": 4},
    schema.SweepConfig: {"name": "sweep"},
    schema.RunConfig: {"name": "run"},
}
# elements that the checks of a list of texts admit
TEXTS = {
    "modules": "qkv",
    "parts": "mlp",
    "watch": "attention_entropy",
    "sets": "output.0.0",
    "lines": "quick",
}
LISTS = {
    *("adaptation.modules", "selector.layers", "callbacks.watch", "callbacks.circuit.sizes"),
    *("circuit.sizes", "compare.analyses", "compare.directions", "compare.parts"),
    *("compare.sets", "compare.lambdas", "logger.tags", "sweep.gpus", "run.varied"),
    *("evaluation.retention", "kl_penalty.texts", "paths", "against", "card.lines"),
}


def fields() -> list[tuple[type, str]]:
    """Every list-typed field of the schema's dataclasses."""
    kinds: list[Any] = [kind for kind in vars(schema).values() if dataclasses.is_dataclass(kind)]
    return [(kind, name) for kind in kinds for name in list_elements(kind)]


def example(kind: type, name: str) -> Any:
    """An element of a list-typed field."""
    element = list_elements(kind)[name]
    if isinstance(element, type) and issubclass(element, Enum):
        return next(iter(element))
    return TEXTS.get(name, {int: 2, float: 0.5}.get(element, "word"))


def nested(value: Any, depth: int) -> Any:
    return value if depth == 0 else [nested(value, depth - 1)]


FIELDS = fields()
NAMES = [f"{kind.__name__}.{name}" for kind, name in FIELDS]


def test_every_list_is_visited() -> None:
    assert len(FIELDS) >= len(LISTS)
    assert {key.rpartition(".")[2] for key in LISTS} == {name for _, name in FIELDS}


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=NAMES)
def test_one_element_is_a_list_of_one(kind: type, name: str) -> None:
    value = example(kind, name)
    depth = 2 if name == "sets" else 1
    beside = BESIDE.get(kind, {})
    # an override, a value of a file and a stored configuration: all of them are merged
    structured: Any = OmegaConf.structured(kind)
    OmegaConf.update(structured, name, value)
    assert OmegaConf.to_object(structured[name]) == nested(value, depth)
    merged: Any = OmegaConf.merge(OmegaConf.structured(kind), {name: value, **beside})
    assert OmegaConf.to_object(merged[name]) == nested(value, depth)
    # a call from Python
    if kind not in (schema.DashboardConfig, schema.ReportConfig) or name != "paths":
        made = kind(**{name: value, **beside})
        assert getattr(made, name) == nested(value, depth)


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=NAMES)
def test_a_mapping_is_no_list(kind: type, name: str) -> None:
    with pytest.raises(OmegaConfBaseException):
        OmegaConf.merge(OmegaConf.structured(kind), {name: {"a": 1}})


def test_null_and_interpolations_stay_what_they_are() -> None:
    node = OmegaConf.create({"it": OmegaConf.structured(schema.SelectorConfig), "other": [1, 2]})
    node.it.layers = "${other}"
    assert node.it.layers == [1, 2]
    node.it.layers = None
    assert node.it.layers is None
    with pytest.raises(ValidationError):
        OmegaConf.structured(schema.CompareOptions).parts = None


def test_lists_of_other_packages_are_left_alone() -> None:
    @dataclasses.dataclass
    class Other:
        numbers: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(ValidationError):
        OmegaConf.structured(Other).numbers = 3


@pytest.mark.parametrize("given", [3, (3,), range(3, 4), [3]])
def test_layers_of_an_adapter(given: Any) -> None:
    config = schema.AdaptationConfig(kind=schema.Adaptation.lora, rank=4, layers=given)
    assert config.layers == [3]


# ---- from the command line, files and stored runs


Compose = Callable[..., list[Any]]


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, verb: str = "train") -> list[Any]:
        return command.compose(command.read(verb, words))

    return run


def test_a_sweep_over_single_layers(composed: Compose) -> None:
    """Also what W&B groups by: the text that a list of layers has there."""
    jobs = composed("-m", "adaptation=lora", "adaptation.layers=0,[1],[2,3],all")
    assert [job.adaptation.layers for job in jobs] == [[0], [1], [2, 3], "all"]
    layers = ["0", "1", "2,3", "all"]
    assert [job.run.axes["adaptation.layers"] for job in jobs] == layers
    assert [job.run.name for job in jobs] == [f"tiny-wire-lora-{name}-r16-s1" for name in layers]


def test_a_layer_is_one_run_however_it_is_written(composed: Compose) -> None:
    (one,) = composed("adaptation=lora", "adaptation.layers=3", "sweep.name=s")
    (other,) = composed("adaptation=lora", "adaptation.layers=[3]", "sweep.name=s")
    assert one == other
    with pytest.raises(UserError, match=r"two jobs would be named tiny-wire-lora-3-r16-s1"):
        composed("-m", "adaptation=lora", "adaptation.layers=3,[3]")


def test_a_sweep_over_layers_of_a_selector(composed: Compose) -> None:
    jobs = composed("-m", "adaptation=lora", "selector=fixed", "selector.layers=2,[1,4]")
    assert [job.selector.layers for job in jobs] == [[2], [1, 4]]
    assert [job.run.axes["selector.layers"] for job in jobs] == ["2", "1,4"]
    assert [job.run.name.split("-")[3:5] for job in jobs] == [["fixed", "2"], ["fixed", "1,4"]]


def test_enumerated_lists_in_run_names_and_axes(composed: Compose) -> None:
    words = ("-m", "before=tiny", "after=OTHER", "compare.analyses=direct,[attention,patching]")
    jobs = composed(*words, verb="compare")
    found = [job.run.axes["compare.analyses"] for job in jobs]
    assert found == ["direct", "attention,patching"]
    assert "analyses=attention,patching" in jobs[1].run.name


def test_files_of_the_user(composed: Compose, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /adaptation: lora\n"
        "adaptation:\n  layers: 2\n  modules: qkv\nlogger:\n  tags: blue\n"
    )
    (config,) = composed("--config-dir", str(tmp_path), "experiment=mine")
    assert config.adaptation.layers == [2]
    assert config.adaptation.modules == ["qkv"]
    assert config.logger.tags == ["blue"]


def test_a_stored_configuration(composed: Compose, tmp_path: Path) -> None:
    (config,) = composed("adaptation=lora", "selector=fixed", "selector.layers=[2]")
    stored = plain(config)
    stored["selector"]["layers"] = 2
    stored["adaptation"]["modules"] = "qkv"
    run = RunDirectory(tmp_path / "run")
    run.write_config("train", stored)
    again = stored_config(run, schema.TrainConfig)
    assert again.selector.layers == [2]
    assert again.adaptation.modules == ["qkv"]


@pytest.mark.parametrize("value", ["maybe", "1.5", "true", "[1,[2]]", "[{a:1}]", "{a:1}"])
@pytest.mark.parametrize("key", ["adaptation.layers", "selector.layers"])
def test_what_is_no_layer_is_refused(composed: Compose, key: str, value: str) -> None:
    chosen = ["selector=fixed"] if key.startswith("selector") else []
    with pytest.raises(UserError, match=rf"^{re.escape(key)}="):
        composed("adaptation=lora", *chosen, f"{key}={value}")
