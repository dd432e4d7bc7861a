"""Shipped YAML files compose and do what their first line says; what does not fit is refused."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sumcirc import schema
from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.schema import configuration

CONF = command.CONF
PRIMARIES = sorted(
    path for path in CONF.glob("*.yaml") if f"{path.stem}_schema" in path.read_text()
)
OPTIONS = sorted(CONF.glob("*/*.yaml"))
EXPERIMENTS = [option for option in OPTIONS if option.parent.name == "experiment"]
ALL = sorted(CONF.rglob("*.yaml"))


def ids(paths: list[Path]) -> list[str]:
    return [path.relative_to(CONF).as_posix() for path in paths]


@pytest.fixture(autouse=True)
def _register() -> None:
    configuration.register()


def groups(primary: Path) -> dict[str, Any]:
    """Group and default of each entry in a primary file's defaults list."""
    defaults = yaml.safe_load(primary.read_text())["defaults"]
    entries = [entry for entry in defaults if isinstance(entry, dict)]
    return {group: name for entry in entries for group, name in entry.items()}


@cache
def composed(verb: str, *overrides: str) -> Any:
    needed = {
        "pretrain": ["out=folder"],
        "pairs": ["out=pairs.jsonl"],
        "compare": ["before=tiny", "after=OTHER"],
    }.get(verb, [])
    return command.compose(command.read(verb, [*needed, *overrides]))[0]


def test_there_is_something_to_test() -> None:
    assert len(PRIMARIES) >= 3
    assert {path.parent.name for path in OPTIONS} >= {
        *("model", "data", "adaptation", "trainer", "callbacks", "logger", "experiment"),
    }


@pytest.mark.parametrize("primary", PRIMARIES, ids=ids(PRIMARIES))
def test_primary_files_compose(primary: Path) -> None:
    config = composed(primary.stem)
    assert type(config).__name__ == f"{primary.stem.title()}Config"


def options_of(primary: Path) -> dict[str, list[Path]]:
    """The files of each group that a primary file has, experiments aside."""
    found = {group: sorted((CONF / group).glob("*.yaml")) for group in groups(primary)}
    found.pop("experiment", None)
    if primary.stem == "compare":  # a comparison names its models by before= and after=
        found.pop("model", None)
    if primary.stem == "train":  # not with everything else
        found["trainer"].remove(CONF / "trainer/fsdp.yaml")
        found.pop("debug")  # it replaces values of other files
        # these go with scheduler=constant and with LoRA, which come first
        early = {"schedulefree": 0, "loraplus": 1}
        found["optimizer"].sort(key=lambda path: early.get(path.stem, 2))
    return found


def content(option: Path) -> dict[str, Any]:
    """What the file sets, without its choices of other files."""
    found: Any = OmegaConf.to_container(OmegaConf.load(option))
    found.pop("defaults", None)
    return found


@pytest.mark.parametrize("primary", PRIMARIES, ids=ids(PRIMARIES))
def test_options_compose_with_every_primary_file_they_belong_to(primary: Path) -> None:
    """The first files of all groups together, then the second ones, and so on."""
    found = options_of(primary)
    for chosen in itertools.zip_longest(*found.values()):
        options = [option for option in chosen if option is not None]
        words = [f"{option.parent.name}={option.stem}" for option in options]
        config = composed(primary.stem, *words)
        for option in options:
            assert_arrives(config, option)


def test_training_composes_with_fsdp() -> None:
    """What reads whole parameters, of which a process of fsdp has pieces, is left out."""
    words = ["trainer=fsdp", "evaluation.at_end=false", "callbacks=none"]
    assert_arrives(composed("train", *words), CONF / "trainer/fsdp.yaml")


@pytest.mark.parametrize("option", sorted((CONF / "debug").glob("*.yaml")), ids=lambda p: p.stem)
def test_training_composes_with_debug(option: Path) -> None:
    words = ["experiment=demo", "callbacks=full", f"debug={option.stem}"]
    found = OmegaConf.structured(composed("train", *words))
    assert_holds(OmegaConf.to_container(found), content(option))


def test_every_option_belongs_to_a_primary_file() -> None:
    belonging = {
        path for primary in PRIMARIES for group in options_of(primary).values() for path in group
    }
    debugging = {*(CONF / "debug").glob("*.yaml")}
    assert {*OPTIONS} - {*EXPERIMENTS} - debugging <= belonging


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=ids(EXPERIMENTS))
def test_experiments_compose_with_every_primary_file_they_belong_to(experiment: Path) -> None:
    # an experiment that names an adaptation is for training
    needed = set(re.findall(r"override /(\w+):", experiment.read_text()))
    wanted = content(experiment)
    fitting = [
        primary
        for primary in PRIMARIES
        if {"experiment", *needed} <= set(groups(primary))
        and set(wanted) <= set(vars(composed(primary.stem)))
    ]
    assert fitting
    for primary in fitting:
        config = composed(primary.stem, f"experiment={experiment.stem}")
        assert_holds(OmegaConf.to_container(OmegaConf.structured(config)), wanted)


def assert_arrives(config: Any, option: Path) -> None:
    section = getattr(config, option.parent.name)
    assert_holds(OmegaConf.to_container(OmegaConf.structured(section)), content(option))


def assert_holds(found: Any, wanted: Any) -> None:
    """Everything in the file has arrived in the configuration."""
    if isinstance(wanted, str) and "${" in wanted:
        return
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert_holds(found[key], value)
    else:
        assert getattr(found, "value", found) == wanted


@pytest.mark.parametrize("file", ALL, ids=ids(ALL))
def test_files_open_with_what_they_are_and_a_command_that_works(file: Path) -> None:
    lines = file.read_text().splitlines()
    if re.fullmatch(r"# @package \w+", lines[0]):  # Hydra reads it in the first line only
        lines = lines[1:]
    opening, rest = lines[0], lines[1:]
    assert re.fullmatch(r"# \w.+: sumcirc \w+( .+)?", opening)
    assert not any(line.startswith("#") for line in rest), "one line of comment"

    verb, *words = shlex.split(opening.rpartition(": sumcirc ")[2])
    # further seeds compose as the first two
    words = [re.sub(r"^(seed=\d+,\d+),.*", r"\1", word) for word in words]
    composed_jobs = command.compose(command.read(verb, words))
    assert composed_jobs
    if file.parent != CONF:
        default = groups(CONF / f"{verb}.yaml")[file.parent.name] == file.stem
        group = re.escape(file.parent.name)
        # a choice may be one of a list: logger=[wandb,csv]
        chosen = any(re.fullmatch(rf"{group}=(\[.*\b)?{file.stem}(\b.*\])?", w) for w in words)
        assert default or chosen, "the command does not use the file"


def test_directives_stand_where_hydra_reads_them() -> None:
    later = {file: file.read_text().splitlines()[1:] for file in ALL}
    assert not [file for file, lines in later.items() if any("@package" in line for line in lines)]


# ---- what does not fit


EXPERIMENT = "# @package _global_\n# A mistake: sumcirc train experiment=mine\n"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("trainer:\n  max_stps: 3\n", ["trainer.max_stps"]),
        ("data:\n  sizes:\n    tran: 3\n", ["data.sizes.tran"]),
        ("optimiser:\n  clip: 1\n", ["optimiser"]),
        ("trainer:\n  max_steps: many\n", ["trainer.max_steps=many", "whole number"]),
        ("optimizer:\n  schedule: square\n", ["optimizer.schedule", "linear, cosine, constant"]),
        ("trainer: 3\n", ["Config"]),
        ("logger:\n  tags: {a: blue}\n", ["logger.tags"]),
        ("callbacks:\n  extra: [a]\n", ["callbacks.extra"]),
        ("adaptation:\n  modules: {qkv: 1}\n", ["adaptation.modules"]),
        ("model:\n  name:\n    first: tiny\n", ["model.name"]),
    ],
)
def test_a_mistake_in_an_experiment_names_file_and_key(
    tmp_path: Path, content: str, parts: list[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(EXPERIMENT + content)
    with pytest.raises(UserError) as refused:
        command.compose(command.read("train", ["--config-dir", str(tmp_path), "experiment=mine"]))
    text = str(refused.value)
    assert text.startswith("experiment/mine.yaml: ")
    assert "\n" not in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("name: mine\nsource: wire\ncolour: red\n", ["data/mine.yaml", "data.colour"]),
        ("name: mine\nsource: pigeon\n", ["data/mine.yaml", "data.source", "wire, hub, files"]),
        ("name: mine\nsource: wire\nsizes:\n  train: x\n", ["data/mine.yaml", "data.sizes.train"]),
        ("name: [mine\n", ["mine.yaml", "line 2"]),
    ],
)
def test_a_mistake_in_a_group_file_names_file_and_key(
    tmp_path: Path, content: str, parts: list[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(content)
    with pytest.raises(UserError) as refused:
        command.compose(command.read("train", ["--config-dir", str(tmp_path), "data=mine"]))
    for part in parts:
        assert part in str(refused.value)


def test_a_good_file_of_the_user_composes(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        EXPERIMENT + "defaults:\n  - override /adaptation: lora\ntrainer:\n  max_steps: 7\n"
    )
    for place in (["--config-dir", str(tmp_path)], [f"hydra.searchpath=[{tmp_path}]"]):
        config = composed("train", *place, "experiment=mine")
        assert (config.trainer.max_steps, config.adaptation.rank) == (7, 16)


def test_callbacks_of_the_user_compose(tmp_path: Path) -> None:
    target = "pytorch_lightning.callbacks.LearningRateMonitor"
    config = composed("train", f"+callbacks.extra.rate._target_={target}")
    assert config.callbacks.extra == {"rate": {"_target_": target}}


def nested_keys() -> list[str]:
    """A misspelt key in every section that a dataclass stands for, at every depth."""
    keys = ["unknown"]

    def visit(kind: type, prefix: str) -> None:
        for field in dataclasses.fields(kind):
            section = getattr(schema, str(field.type), None)
            if dataclasses.is_dataclass(section):
                keys.append(f"{prefix}{field.name}.unknown")
                visit(section, f"{prefix}{field.name}.")

    visit(schema.TrainConfig, "")
    return keys


@pytest.mark.parametrize("key", nested_keys())
@pytest.mark.parametrize("force", ["", "+"])
def test_an_unknown_key_is_refused_in_every_section(key: str, force: str) -> None:
    with pytest.raises(UserError) as refused:
        composed("train", f"{force}{key}=1")
    assert key in str(refused.value)


def test_sections_at_depth_are_visited() -> None:
    assert {"data.sizes.unknown", "optimizer.unknown", "run.unknown"} <= set(nested_keys())


# ---- contradictions


LORA: dict[str, Any] = {"kind": schema.Adaptation.lora, "rank": 4}
WIRE, FILES = schema.Source.wire, schema.Source.files
IA3, VERA = schema.Variant.ia3, schema.Variant.vera


@pytest.mark.parametrize(
    ("kind", "values", "setting"),
    [
        (schema.SizesConfig, {"train": 0}, "data.sizes.train=0"),
        (schema.DataConfig, {"permute_summaries": -1}, "data.permute_summaries=-1"),
        (schema.DataConfig, {"source": FILES, "event": "second"}, "data.event=second: only"),
        (schema.DataConfig, {"source": WIRE, "event": "main"}, "data.event=main: choose"),
        (schema.AdaptationConfig, {**LORA, "layers": []}, "adaptation.layers=[]"),
        (schema.AdaptationConfig, {**LORA, "layers": [-1]}, "adaptation.layers=[-1]"),
        (schema.AdaptationConfig, {**LORA, "layers": [1, 1]}, "adaptation.layers=[1, 1]"),
        (schema.AdaptationConfig, {**LORA, "layers": [True]}, "adaptation.layers=[True]"),
        (schema.AdaptationConfig, {**LORA, "layers": "some"}, "adaptation.layers=some"),
        (schema.AdaptationConfig, {**LORA, "layers": {"a": 1}}, "adaptation.layers={'a': 1}"),
        (
            schema.AdaptationConfig,
            {**LORA, "modules": ["q_proj", "q_proj"]},
            "adaptation.modules=['q_proj', 'q_proj']",
        ),
        (schema.AdaptationConfig, {**LORA, "peft": ["use_dora"]}, "adaptation.peft=['use_dora']"),
        (schema.AdaptationConfig, {**LORA, "variant": IA3}, "adaptation.rank=4"),
        (
            schema.AdaptationConfig,
            {"kind": schema.Adaptation.lora, "variant": IA3, "budget": 9},
            "adaptation.budget=9",
        ),
        (schema.AdaptationConfig, {**LORA, "variant": VERA, "alpha": 8.0}, "adaptation.alpha=8.0"),
        (schema.AdaptationConfig, {**LORA, "modules": []}, "adaptation.modules=[]"),
        (schema.AdaptationConfig, {**LORA, "rank": 0}, "adaptation.rank=0"),
        (schema.AdaptationConfig, {**LORA, "rank": None}, "adaptation.rank=null"),
        (schema.AdaptationConfig, {**LORA, "budget": 9}, "adaptation.rank=4"),
        (schema.AdaptationConfig, {**LORA, "rank": None, "budget": -9}, "adaptation.budget=-9"),
        (schema.AdaptationConfig, {**LORA, "alpha": 0.0}, "adaptation.alpha=0.0"),
        (schema.AdaptationConfig, {**LORA, "dropout": 1.0}, "adaptation.dropout=1.0"),
        (schema.AdaptationConfig, {"kind": schema.Adaptation.full, "rank": 4}, "adaptation.rank=4"),
        (schema.EncodingConfig, {"prompt": "no document"}, "encoding.prompt='no document'"),
        (schema.EncodingConfig, {"summary": ""}, "encoding.summary=''"),
        (schema.EncodingConfig, {"max_length": 0}, "encoding.max_length=0"),
        (schema.ExportConfig, {"push_to_hub": "news"}, "export.push_to_hub=news"),
        (schema.GenerationConfig, {"num_beams": 0}, "generation.num_beams=0"),
        (schema.GenerationConfig, {"min_new_tokens": 999}, "generation.min_new_tokens=999"),
        (schema.EvaluationConfig, {"bootstrap": 10}, "evaluation.bootstrap=10"),
        (schema.EvaluationConfig, {"confidence": 1.0}, "evaluation.confidence=1.0"),
        (schema.OptimizerConfig, {"learning_rate": 0.0}, "optimizer.learning_rate=0.0"),
        (schema.OptimizerConfig, {"warmup": 1.0}, "optimizer.warmup=1.0"),
        (schema.OptimizerConfig, {"momentum": 0.9}, "optimizer.momentum=0.9"),
        (schema.SchedulerConfig, {"warmup": 1.0}, "scheduler.warmup=1.0"),
        (schema.OptimizerConfig, {"clip": -1.0}, "optimizer.clip=-1.0"),
        (schema.TrainerConfig, {"max_steps": 0}, "trainer.max_steps=0"),
        (schema.TrainerConfig, {"accumulate": 0}, "trainer.accumulate=0"),
        (schema.TrainerConfig, {"keep_checkpoints": 0}, "trainer.keep_checkpoints=0"),
        (schema.PairsConfig, {"split": "dev"}, "split=dev"),
        (schema.PairsConfig, {"documents": 0}, "documents=0"),
        (schema.PairsConfig, {"metric": schema.CircuitMetric.auto}, "metric=auto"),
        (
            schema.CallbacksConfig,
            {"circuit": schema.CircuitOptions(metric=schema.CircuitMetric.auto)},
            "callbacks.circuit.metric=auto",
        ),
        (schema.LoggerConfig, {"tags": ["x" * 65]}, "logger.tags="),
        (schema.LoggerConfig, {"tags": [""]}, "logger.tags="),
        (schema.LoggerConfig, {"samples": -1}, "logger.samples=-1"),
        (schema.TrainerConfig, {"devices": 0}, "trainer.devices=0"),
        (schema.TrainerConfig, {"devices": []}, "trainer.devices=[]"),
        (schema.TrainerConfig, {"devices": True}, "trainer.devices=True"),
        (schema.TrainerConfig, {"devices": "two"}, "trainer.devices=two"),
        (schema.TrainerConfig, {"devices": ["0"]}, "trainer.devices=['0']"),
    ],
)
def test_contradictions_name_the_setting_and_its_value(
    kind: type, values: dict[str, Any], setting: str
) -> None:
    with pytest.raises(UserError) as refused:
        kind(**values)
    assert str(refused.value).startswith(setting)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("devices", [1, 8, -1, "auto", [0], [0, 3]])
def test_devices(devices: Any) -> None:
    assert schema.TrainerConfig(devices=devices).devices == devices


def test_configurations_survive_yaml(tmp_path: Path) -> None:
    """A run's config.yaml gives the same dataclasses again."""
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.tracking.session import plain, stored_config

    config = composed(
        *("train", "adaptation=lora", "experiment=paper", "logger.tags=[a,'b,c']"),
        *(r"encoding.prompt='{document} \${seed}'", "+callbacks.extra.x._target_=y", "seed=5"),
    )
    run = RunDirectory(tmp_path)
    run.write_config("train", plain(config))
    again = stored_config(run, schema.TrainConfig)
    assert again == config
    assert again.encoding.prompt == "{document} ${seed}"


def test_hydra_composes_the_same_without_our_command() -> None:
    """Other programs may compose conf/ by Hydra's own interface."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = compose("train", ["sweep.name=mine", "adaptation=lora"])
    assert configuration.typed(config) == composed("train", "sweep.name=mine", "adaptation=lora")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["selector=circuit"], "tiny-wire-lora-circuit-r16-s1"),
        (["selector=random", "selector.count=3"], "tiny-wire-lora-random3-r16-s1"),
        (["selector=all", "selector.count=3"], "tiny-wire-lora-all-r16-s1"),
        (["selector=hybrid", "adaptation.budget=294912"], "tiny-wire-lora-hybrid-b294912-s1"),
        (["selector=fixed", "selector.layers=[1,4]"], "tiny-wire-lora-fixed-1,4-r16-s1"),
        (["adaptation.budget=9999"], "tiny-wire-lora-all-b9999-s1"),
        (["data.permute_summaries=0"], "tiny-wire-lora-all-r16-permuted0-s1"),
        (["data.event=second"], "tiny-wire+second-lora-all-r16-s1"),
        (["adaptation=dora"], "tiny-wire-dora-all-r16-s1"),
        (["adaptation.variant=vera"], "tiny-wire-vera-all-r16-s1"),
        (["adaptation.modules=[q_proj,v_proj]"], "tiny-wire-lora-all-q_proj+v_proj-r16-s1"),
    ],
)
def test_run_names_say_the_selector(words: list[str], name: str) -> None:
    config = composed("train", "adaptation=lora", *words)
    assert config.run.name == name
    assert config.adaptation.layers == ("auto" if "selector" in words[0] else "all")
    assert (config.adaptation.rank is None) == (config.adaptation.budget is not None)


def test_ia3_has_a_name_without_a_rank() -> None:
    assert composed("train", "adaptation=ia3").run.name == "tiny-wire-ia3-all-qkv+mlp_out-s1"
    with pytest.raises(UserError, match=r"^adaptation\.rank=8: adaptation=ia3 has no rank"):
        composed("train", "adaptation=ia3", "adaptation.rank=8")


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"name": schema.SelectorName.page, "count": 0}, "selector.count=0"),
        ({"name": schema.SelectorName.page, "documents": 0}, "selector.documents=0"),
        ({"name": schema.SelectorName.page, "resamples": 1}, "selector.resamples=1"),
        ({"name": schema.SelectorName.random, "seed": -1}, "selector.seed=-1"),
        ({"name": schema.SelectorName.drift, "probe_steps": -1}, "selector.probe_steps=-1"),
        ({"name": schema.SelectorName.page, "layers": [1]}, "selector.layers=[1]"),
        ({"name": schema.SelectorName.fixed, "layers": [1, 1]}, "selector.layers=[1, 1]"),
        (
            {"name": schema.SelectorName.page, "preset": schema.Preset.paper},
            "selector.preset=paper",
        ),
        ({"count": 3}, "selector.count"),
    ],
)
def test_what_a_selector_does_not_take_is_refused(values: dict[str, Any], setting: str) -> None:
    with pytest.raises(UserError) as refused:
        schema.SelectorConfig(**values)
    assert str(refused.value).startswith(setting)
    assert "\n" not in str(refused.value)
