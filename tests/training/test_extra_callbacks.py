"""Callbacks of Lightning's beside ours: each works, or is refused by the name of its setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning.callbacks
from pytorch_lightning import Callback

from sumcirc.errors import UserError
from sumcirc.training.extra_callbacks import UNFIT, blaming, make_extra

LIGHTNING = "pytorch_lightning.callbacks"
EVERY = [
    name
    for name in pytorch_lightning.callbacks.__all__
    if isinstance(kind := getattr(pytorch_lightning.callbacks, name), type)
    and issubclass(kind, Callback)
]

NEEDED: dict[str, dict[str, Any]] = {
    "EarlyStopping": {"monitor": "validation/loss"},
    "StochasticWeightAveraging": {"swa_lrs": 0.1},
    "GradientAccumulationScheduler": {"scheduling": {0: 2}},
    "ModelPruning": {"pruning_fn": "l1_unstructured"},
    "ThroughputMonitor": {"batch_size_fn": len},
}


def spec(name: str, **arguments: Any) -> dict[str, dict[str, Any]]:
    return {"mine": {"_target_": f"{LIGHTNING}.{name}", **NEEDED.get(name, {}), **arguments}}


@pytest.mark.parametrize("name", EVERY)
def test_each_of_lightnings_is_made_or_refused_by_name(name: str) -> None:
    kind = getattr(pytorch_lightning.callbacks, name)
    if issubclass(kind, tuple(UNFIT)):
        with pytest.raises(UserError, match=r"^callbacks\.extra\.mine: [^\n]*$"):
            make_extra(spec(name))
    else:
        (made,) = make_extra(spec(name))
        assert type(made) is kind


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("LearningRateFinder", "optimizer.learning_rate"),
        ("BatchSizeFinder", "trainer.batch_size"),
        ("GradientAccumulationScheduler", "trainer.accumulate"),
        ("ModelCheckpoint", "trainer.checkpoint_every"),
        ("RichProgressBar", "callbacks.progress"),
        ("BackboneFinetuning", "adaptation=lora"),
    ],
)
def test_what_settings_of_the_run_decide_is_refused(name: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"^callbacks\.extra\.mine: {name} .*{remedy}"):
        make_extra(spec(name))


def test_what_is_made_must_be_a_callback() -> None:
    spec = {"mine": {"_target_": "sumcirc.training.extra_callbacks.UserError"}}
    with pytest.raises(UserError, match=r"^callbacks\.extra\.mine"):
        make_extra(spec)


class _Raising(pytorch_lightning.callbacks.EarlyStopping):
    """Stands for one of Lightning's that finds out while it trains that it can't work."""

    def on_fit_start(self, *_: Any) -> None:
        raise RuntimeError("no metric\nto watch")


def raised(module: str) -> tuple[type[BaseException], str]:
    kind = type("EarlyStopping", (_Raising,), {"__module__": module})
    made: Any = kind("validation/loss")
    with pytest.raises((UserError, RuntimeError)) as caught, blaming(spec("EarlyStopping")):
        made.on_fit_start(None, None)
    return caught.type, str(caught.value)


def test_an_error_in_one_of_lightnings_is_one_line_and_one_in_another_stays_what_it_is() -> None:
    kind, said = raised("pytorch_lightning.callbacks.early_stopping")
    assert kind is UserError
    assert said.startswith(
        "callbacks.extra.mine: EarlyStopping can't work here (no metric to watch)"
    )
    assert raised("my_watchers")[0] is RuntimeError


def test_errors_of_the_run_itself_pass(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^diverged$"), blaming(spec("EarlyStopping")):
        raise UserError("diverged")
    with pytest.raises(FileNotFoundError), blaming(spec("EarlyStopping")):
        (tmp_path / "none").read_text()
