"""Every optimizer and schedule: what it updates, that it resumes exactly, and what is refused."""

from __future__ import annotations

import ast
import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

import sumcirc
from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt
from sumcirc.schema import (
    Adaptation,
    AdaptationConfig,
    OptimizerConfig,
    SchedulerConfig,
    configuration,
)
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain
from sumcirc.training import optimizers
from sumcirc.training.checkpoint import checkpoint_file
from sumcirc.training.module import SummarizationModule
from sumcirc.training.optimizers import JointOptimizer, check_optimizer
from sumcirc.training.trainer import fit
from tests.support.small_models import small_model
from tests.support.small_training import prepared, small_config, train

configuration.register()

Files = dict[str, Path]
LORA = AdaptationConfig(kind=Adaptation.lora, rank=4)


def composed(*words: str) -> Any:
    (config,) = command.compose(command.read("train", words))
    return config


def module(model: Any, *words: str, total: int = 100) -> SummarizationModule:
    config = composed("optimizer.learning_rate=1e-2", *words)
    made = SummarizationModule(model, config.optimizer, total, scheduler=config.scheduler)
    made.trainer = SimpleNamespace(  # type: ignore[assignment]
        precision="32-true", val_check_interval=7
    )
    return made


def optimizer_of(model: Any, *words: str) -> Any:
    return module(model, *words).configure_optimizers()["optimizer"]


def take_steps(optimizer: Any, model: Any, steps: int = 3) -> None:
    """Step along gradients that depend only on the step and the parameter's place."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for p in trained:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


# ---- what each optimizer does


def test_the_default_is_adamw_bit_for_bit() -> None:
    ours, theirs = small_model("gpt2"), small_model("gpt2")
    take_steps(optimizer_of(ours, "scheduler.warmup=0"), ours)
    named = list(theirs.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for _, p in named if p.ndim == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, fused=True)
    take_steps(reference, theirs)
    assert_same(weights(ours), weights(theirs))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(family: str) -> None:
    model = small_model(family)
    made = optimizer_of(model, "optimizer=muon", "optimizer.weight_decay=0.3")
    assert isinstance(made, JointOptimizer)
    muon, adam = made.parts
    names = {id(p): name for name, p in model.named_parameters()}
    hidden = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    rest = {names[id(p)] for group in adam.param_groups for p in group["params"]}
    assert hidden | rest == set(names.values())
    assert not hidden & rest
    expected = {
        name
        for name, p in model.named_parameters()
        if p.ndim == 2 and not any(part in name for part in ("wte", "wpe", "embed", "lm_head"))
    }
    assert hidden == expected
    decayed = {group["weight_decay"]: len(group["params"]) for group in adam.param_groups}
    assert set(decayed) == {0.3, 0.0}
    with torch.no_grad():
        made.param_groups[0]["lr"], made.param_groups[1]["lr"] = 0.02, 0.03
    assert muon.param_groups[0]["lr"] == 0.02
    assert adam.param_groups[0]["lr"] == 0.03


def test_two_optimizers_as_one_are_the_two_and_resume() -> None:
    model, apart, again = (small_model("gpt2") for _ in range(3))
    made = optimizer_of(model, "optimizer=muon", "scheduler=constant", "scheduler.warmup=0")
    take_steps(made, model, 2)
    other = optimizer_of(apart, "optimizer=muon", "scheduler=constant", "scheduler.warmup=0")
    for part in copy.copy(other.parts):  # each by itself
        part.state = {**part.state} if part.state else type(part.state)(dict)
    trained = [p for p in apart.parameters() if p.requires_grad]
    for step in range(2):
        generator = torch.Generator().manual_seed(step)
        for p in trained:
            p.grad = torch.randn(p.shape, generator=generator)
        for part in other.parts:
            part.step()
    assert_same(weights(model), weights(apart))
    again.load_state_dict(model.state_dict())
    resumed = optimizer_of(again, "optimizer=muon", "scheduler=constant", "scheduler.warmup=0")
    resumed.load_state_dict(copy.deepcopy(made.state_dict()))
    take_steps(made, model)
    take_steps(resumed, again)
    assert_same(weights(model), weights(again))


def test_muon_alone_for_adapters() -> None:
    made = optimizer_of(adapt(small_model("gpt2"), LORA), "adaptation=lora", "optimizer=muon")
    assert type(made) is torch.optim.Muon
    assert made.defaults["adjust_lr_fn"] == "match_rms_adamw"


def test_loraplus_raises_the_rate_of_lora_b() -> None:
    model: Any = adapt(small_model("gpt2"), LORA)
    words = ("adaptation=lora", "optimizer=loraplus", "optimizer.ratio=8", "scheduler.warmup=0")
    made = optimizer_of(model, *words)
    rate = {id(p): group["lr"] for group in made.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(rate) == len(trained)
    for name, p in trained.items():
        assert rate[id(p)] == pytest.approx(8e-2 if "lora_B" in name else 1e-2), name


@pytest.mark.parametrize(
    ("words", "kind", "defaults"),
    [
        (["optimizer=sgd"], "SGD", {"momentum": 0.9}),
        (["optimizer=sgd", "optimizer.arguments={nesterov: true}"], "SGD", {"nesterov": True}),
        (["optimizer=adafactor", "optimizer.arguments.d=2.0"], "Adafactor", {"d": 2.0}),
        (["optimizer.arguments={amsgrad: true}"], "AdamW", {"amsgrad": True}),
        (["optimizer._target_=torch.optim.RMSprop"], "RMSprop", {"lr": 1e-2}),
        (
            [
                "optimizer._target_=transformers.optimization.Adafactor",
                "optimizer.arguments={relative_step: false}",
            ],
            "Adafactor",
            {"relative_step": False},
        ),
    ],
)
def test_settings_reach_the_class(words: list[str], kind: str, defaults: dict[str, Any]) -> None:
    config = composed(*words)
    check_optimizer(config.optimizer, config.scheduler)
    made = optimizer_of(small_model("gpt2"), *words)
    assert type(made).__name__ == kind
    assert {name: made.defaults[name] for name in defaults} == defaults
    assert [group["weight_decay"] for group in made.param_groups] == [0.01, 0.0]


# ---- schedules


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["scheduler=cosine", "scheduler.warmup=0.1"], {5: 0.5, 10: 1.0, 55: 0.5, 100: 0.0}),
        (["optimizer.schedule=cosine", "optimizer.warmup=0.1"], {5: 0.5, 10: 1.0, 55: 0.5}),
        (["scheduler=polynomial", "scheduler.warmup=0"], {0: 1.0, 50: 0.25, 90: 0.01}),
        (["scheduler=cosine_with_min_lr", "scheduler.warmup=0"], {0: 1.0, 100: 0.1}),
        (
            ["scheduler=warmup_stable_decay", "scheduler.arguments.num_decay_steps=20"],
            {5: 1.0, 80: 1.0, 90: 0.5, 100: 0.0},
        ),
        (
            [
                "scheduler._target_=torch.optim.lr_scheduler.LinearLR",
                "scheduler.arguments={start_factor: 1, end_factor: 0.5, total_iters: total_steps}",
            ],
            {0: 1.0, 50: 0.75, 100: 0.5},
        ),
    ],
)
def test_schedules(words: list[str], expected: dict[int, float]) -> None:
    config = composed(*words)
    check_optimizer(config.optimizer, config.scheduler)
    made = module(small_model("gpt2"), *words).configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    found = {}
    for step in range(101):
        found[step] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
    for step, share in expected.items():
        assert found[step] == pytest.approx(1e-2 * share, abs=1e-9), step


def test_the_rate_falls_when_the_validation_loss_stays(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    target = "torch.optim.lr_scheduler.ReduceLROnPlateau"
    scheduler = composed(
        f"scheduler._target_={target}",
        "scheduler.arguments={patience: 0, threshold: 1000.0, threshold_mode: abs}",
    ).scheduler
    trainer = {"validate_every": 2, "log_every": 1, "accumulate": 2}
    config = small_config(gpt2_folder, news_files, tmp_path, trainer=trainer)
    found = train(replace(config, scheduler=scheduler), tmp_path / "run")
    rates = found.values("train/learning_rate")
    # every validation but the first is no better than the best by 1,000
    assert [rates[step] for step in range(1, 7)] == pytest.approx([1e-3] * 4 + [1e-4] * 2)


# ---- runs that are resumed


KINDS = {
    "muon": ["optimizer=muon"],
    "schedulefree": ["optimizer=schedulefree"],
    "radam": ["optimizer._target_=schedulefree.RAdamScheduleFree", "scheduler=constant"],
    "loraplus": ["optimizer=loraplus", "adaptation=lora"],
    "adafactor": ["optimizer=adafactor"],
    "sgd": ["optimizer=sgd", "scheduler=cosine"],
    "cycle": [
        "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR",
        "scheduler.arguments={max_lr: 0.01, total_steps: total_steps}",
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    kind: str, gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    if kind in ("schedulefree", "radam"):
        pytest.importorskip("schedulefree")
    chosen = composed("optimizer.learning_rate=1e-2", *KINDS[kind])
    adaptation = {"kind": Adaptation.lora, "rank": 4} if kind == "loraplus" else {}
    config = replace(
        small_config(
            gpt2_folder,
            news_files,
            tmp_path,
            adaptation=adaptation,
            trainer={"keep_checkpoints": -1},
        ),
        optimizer=chosen.optimizer,
        scheduler=chosen.scheduler,
    )
    whole = train(config, tmp_path / "whole")
    run = RunDirectory(tmp_path / "resumed")
    run.checkpoints.mkdir(parents=True)
    shutil.copy(checkpoint_file(whole.run.checkpoints, 4), run.checkpoints)
    shutil.copy(whole.run.metrics.path, run.metrics.path)
    model, data = prepared(config)
    _, resumed = fit(config, model, data, run, None)
    assert_same(whole.weights(), resumed.state_dict())
    untimed = [
        [line for line in one.metrics.path.read_text().splitlines() if ",time/" not in line]
        for one in (whole.run, run)
    ]
    assert untimed[0] == untimed[1]
    losses = whole.values("validation/loss")
    assert losses[6] < losses[0]


# ---- schedule-free


def test_schedule_free_weights_are_averaged_where_they_are_looked_at(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    modes: list[bool] = []
    original = SummarizationModule.validation_step

    def recorded(self: SummarizationModule, *arguments: Any) -> None:
        modes.extend(g["train_mode"] for o in self._averaging() for g in o.param_groups)
        original(self, *arguments)

    monkeypatch.setattr(SummarizationModule, "validation_step", recorded)
    chosen = composed("optimizer=schedulefree", "optimizer.learning_rate=1e-2")
    assert chosen.scheduler.kind.name == "constant"

    def trained(name: str, every: int) -> Any:
        options = {"validate_every": every, "checkpoint_every": 100}
        config = small_config(gpt2_folder, news_files, tmp_path, trainer=options)
        config = replace(config, optimizer=chosen.optimizer, scheduler=chosen.scheduler)
        return train(config, tmp_path / name)

    often, seldom = trained("often", 1), trained("seldom", 100)
    assert modes
    assert not any(modes)  # each validation saw the averaged weights
    assert_same(often.weights(), seldom.weights())  # and left training as it was
    (optimizer,) = often.trainer.optimizers
    assert isinstance(optimizer, schedulefree.AdamWScheduleFree)
    assert optimizer.param_groups[0]["warmup_steps"] == 0  # 5 % of 6 steps
    saved = torch.load(checkpoint_file(often.run.checkpoints, 6), weights_only=True)
    assert_same(often.weights(), saved["state_dict"])
    assert not saved["optimizer_states"][0]["param_groups"][0]["train_mode"]
    averaged = {name: p.clone() for name, p in often.weights().items()}
    optimizer.train()
    assert any(not torch.equal(averaged[n], p) for n, p in often.module.state_dict().items())


# ---- what is refused


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["optimizer._target_=os.system"], "optimizer._target_=os.system: is outside the known"),
        (["optimizer._target_=torch.optim.Optimus"], "optimizer._target_=torch.optim.Optimus: can"),
        (
            ["optimizer._target_=torch.optim.lr_scheduler.StepLR"],
            "optimizer._target_=torch.optim.l",
        ),
        (["scheduler._target_=torch.optim.SGD"], "scheduler._target_=torch.optim.SGD: is outside"),
        (
            ["scheduler._target_=subprocess.Popen"],
            "scheduler._target_=subprocess.Popen: is outside",
        ),
        (
            ["optimizer._target_=torch.optim.SparseAdam", "optimizer.weight_decay=0"],
            "optimizer._target_=torch.optim.SparseAdam: is refused by torch's SparseAdam",
        ),
        (
            ["optimizer._target_=torch.optim.LBFGS"],
            "optimizer.weight_decay=0.01: torch's LBFGS has no weight decay",
        ),
        (
            ["optimizer=sgd", "optimizer.arguments={nesterof: true}"],
            "optimizer=sgd optimizer.arguments={'nesterof': True}: is refused by torch's SGD",
        ),
        (["optimizer.arguments={lr: 1}"], "optimizer.arguments={'lr': 1}: lr is set by other"),
        (
            ["scheduler.arguments={cycles: 1}"],
            "scheduler=linear scheduler.arguments={'cycles': 1}: is refused (",
        ),
        (
            ["scheduler._target_=torch.optim.lr_scheduler.LambdaLR"],
            "scheduler._target_=torch.optim.lr_scheduler.LambdaLR: is refused (",
        ),
        (
            ["optimizer._target_=schedulefree.SGDScheduleFree"],
            "scheduler=linear: optimizer._target_=schedulefree.SGDScheduleFree takes the place",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(words: list[str], start: str) -> None:
    if "schedulefree" in words[0]:
        pytest.importorskip("schedulefree")
    config = composed(*words)
    with pytest.raises(UserError) as refused:
        check_optimizer(config.optimizer, config.scheduler)
    assert str(refused.value).startswith(start)
    assert "\n" not in str(refused.value)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("optimizer=schedulefree")
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^optimizer=schedulefree: .*'sumcirc\[schedulefree\]'$"):
        check_optimizer(config.optimizer, config.scheduler)


def test_a_torch_without_muon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("optimizer=muon")
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"^optimizer=muon: needs torch 2\.9 or later"):
        check_optimizer(config.optimizer, config.scheduler)


def test_old_names_are_those_of_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    config = composed("optimizer.schedule=cosine", "optimizer.warmup=0.2")
    assert (config.scheduler.kind.name, config.scheduler.warmup) == ("cosine", 0.2)
    said = capsys.readouterr()
    for line in (
        "optimizer.schedule=cosine: `optimizer.schedule` is called `scheduler.kind` now",
        "optimizer.warmup=0.2: `optimizer.warmup` is called `scheduler.warmup` now",
    ):
        assert line in said.out + said.err


# ---- configurations from somebody else


OWNED = "OWNED"
HOSTILE = {"_target_": "os.system", "arguments": {"command": f"touch {OWNED}"}}


@pytest.mark.parametrize("section", ["optimizer", "scheduler"])
def test_a_run_that_is_resumed_or_evaluated_makes_no_class_of_its_own(
    section: str,
    gpt2_folder: Path,
    news_files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = small_config(gpt2_folder, news_files, tmp_path, evaluation={"at_end": False})
    run = RunDirectory.create(tmp_path / "runs" / "sent", "train", plain(config))
    body = yaml.safe_load(run.config_file.read_text())
    body["config"][section] |= HOSTILE | {"kind": "other"}
    run.config_file.write_text(yaml.safe_dump(body))
    with pytest.raises(SystemExit) as left:
        cli.main(["train", f"resume={run.path}"])
    assert left.value.code == 2
    error = capfd.readouterr().err
    assert f"{section}._target_=os.system: is outside the known namespaces" in error
    # a run's optimizer is not read by the other verbs
    words = command.read("evaluate", [f"checkpoint={run.path}"]).overrides
    assert not [word for word in words if "_target_" in word or section in word]
    assert not (tmp_path / OWNED).exists()


def test_an_adapter_makes_no_class(tmp_path: Path, gpt2_folder: Path) -> None:
    from peft import PeftModel

    from sumcirc.models.loading import load_model
    from sumcirc.models.model_reference import reference
    from sumcirc.schema import ModelConfig

    folder = tmp_path / "adapter"
    base = load_model(ModelConfig(name="small", path=str(gpt2_folder)))
    adapted = adapt(base, LORA)
    assert isinstance(adapted, PeftModel)
    adapted.peft_config["default"].base_model_name_or_path = str(gpt2_folder)
    adapted.save_pretrained(str(folder))
    file = folder / "adapter_config.json"
    described = json.loads(file.read_text())
    described |= HOSTILE | {"optimizer": HOSTILE, "revision": None}
    file.write_text(json.dumps(described))
    found = reference(str(folder), "checkpoint")
    assert "os.system" not in repr(found)
    assert not Path(OWNED).exists()
    assert not (folder / OWNED).exists()


def test_one_module_turns_text_into_code() -> None:
    """Only schema/instantiation.py calls Hydra's `instantiate`, `locate` or the like."""
    package = Path(sumcirc.__file__).parent
    calls = {"instantiate", "locate", "get_class", "get_method", "get_object", "resolve_name"}
    found = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", None))
            if isinstance(node, (ast.Attribute, ast.Name)) and name in calls:
                found.add(file.relative_to(package).as_posix())
    assert found == {"schema/instantiation.py"}


def test_schedules_of_the_library_default_to_the_command_s() -> None:
    assert SchedulerConfig() == composed().scheduler
    assert OptimizerConfig(learning_rate=composed().optimizer.learning_rate) == composed().optimizer
