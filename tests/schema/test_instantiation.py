"""Only classes of known namespaces are made from a configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sumcirc.errors import UserError
from sumcirc.schema.instantiation import build, function

MONITOR = "pytorch_lightning.callbacks.LearningRateMonitor"
LAMBDA = "pytorch_lightning.callbacks.LambdaCallback"


def test_makes_a_callback_with_plain_arguments() -> None:
    from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor

    made = build("callbacks.extra.rate", {"_target_": MONITOR, "logging_interval": "step"})
    assert isinstance(made, LearningRateMonitor)
    assert made.logging_interval == "step"
    stop = build(
        "callbacks.extra.stop",
        {
            "_target_": "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
            "monitor": "validation/loss",
        },
    )
    assert isinstance(stop, EarlyStopping)


def test_makes_our_own_callbacks() -> None:
    made = build(
        "callbacks.extra.lines", {"_target_": "sumcirc.training.progress_bars.ProgressLines"}
    )
    assert type(made).__name__ == "ProgressLines"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.callbacks",
        "pytorch_lightning.callbacksX.Timer",
        "sumcirc.callbacks",
        "sumcirc.storage.writing.write_text",
        "sumcirc.callbacks.nowhere.Callback",
        # these begin with a known namespace and lead out of it
        "pytorch_lightning.callbacks.model_checkpoint.os.system",
        "pytorch_lightning.callbacks.model_checkpoint.shutil.rmtree",
        "pytorch_lightning.callbacks.model_checkpoint.Path",
        "pytorch_lightning.callbacks.model_checkpoint.pl.Trainer",
        "sumcirc.training.progress_bars.pl.Trainer",
        "sumcirc.training.progress_bars.sys.exit",
        # a known place, but no class
        "sumcirc.training.progress_bars.progress_callback",
        "sumcirc.training.progress_bars.ProgressLines.on_train_start",
        "pytorch_lightning.callbacks.Timer.__init__.__globals__",
        "",
    ],
)
def test_everything_else_is_refused(target: str) -> None:
    with pytest.raises(UserError) as refused:
        build("callbacks.extra.mine", {"_target_": target, "command": "false"})
    assert str(refused.value).startswith(f"callbacks.extra.mine._target_={target}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "argument",
    [
        {"_target_": "os.system", "command": "touch owned"},
        {"_target_": "os.system", "_partial_": True, "command": "touch owned"},
        {"deeper": [{"_target_": "os.system", "command": "touch owned"}]},
        [[{"_target_": "os.system", "command": "touch owned"}]],
    ],
)
def test_nested_targets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for spec in (
        {"_target_": LAMBDA, "on_train_start": argument},
        {"_target_": LAMBDA, "_args_": [argument]},
    ):
        with pytest.raises(UserError, match=r"os\.system"):
            build("callbacks.extra.mine", spec)
    assert not (tmp_path / "owned").exists()


def test_a_nested_target_of_a_known_namespace_is_made() -> None:
    made = build(
        "callbacks.extra.mine",
        {"_target_": LAMBDA, "on_fit_start": {"_target_": MONITOR, "_partial_": True}},
    )
    assert made.on_fit_start.func.__name__ == "LearningRateMonitor"


@pytest.mark.parametrize(
    "spec",
    [
        {"_target_": MONITOR, "logging_interval": "${oc.env:HOME}"},
        {"_target_": MONITOR, "logging_interval": ["${oc.decode:'{_target_: os.system}'}"]},
        {"_target_": MONITOR, "nested": {"${oc.env:HOME}": 1}},
    ],
)
def test_interpolations_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="interpolation"):
        build("callbacks.extra.mine", spec)


@pytest.mark.parametrize("spec", [{}, {"target": MONITOR}, [MONITOR], MONITOR, None, 3])
def test_a_spec_without_target_is_refused(spec: Any) -> None:
    with pytest.raises(UserError, match=r"^callbacks\.extra.mine: needs `_target_`"):
        build("callbacks.extra.mine", spec)


@pytest.mark.parametrize(
    "arguments", [{"nonsense": 1}, {"logging_interval": "never"}, {"_args_": [1, 2, 3, 4, 5]}]
)
def test_arguments_that_do_not_fit_are_one_line(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^callbacks\.extra.mine: ") as refused:
        build("callbacks.extra.mine", {"_target_": MONITOR, **arguments})
    assert "\n" not in str(refused.value)


def test_the_user_admits_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_watchers"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nclass Watcher:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"_target_": "my_watchers.Watcher"}
    with pytest.raises(UserError, match="SUMCIRC_NAMESPACES"):
        build("callbacks.extra.mine", spec)
    assert "my_watchers" not in sys.modules, "it is not even imported"
    monkeypatch.setenv("SUMCIRC_NAMESPACES", "other,my_watchers")
    assert type(build("callbacks.extra.mine", spec)).__name__ == "Watcher"
    with pytest.raises(UserError, match="is not a class defined in"):
        build("callbacks.extra.mine", {"_target_": "my_watchers.os.system"})
    monkeypatch.delitem(sys.modules, "my_watchers")


def test_a_function_is_taken_from_admitted_modules_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rules.py").write_text(
        "import os\nfrom shutil import rmtree\n"
        "def loud(x):\n    return 2 * x\nclass Quiet:\n    pass\n"
    )
    (tmp_path / "my_broken.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"my_rules\.loud: .* namespaces \(none\);.*SUMCIRC_NAMESP"):
        function("selector.score", "my_rules.loud")
    assert "my_rules" not in sys.modules, "it is not even imported"
    monkeypatch.setenv("SUMCIRC_NAMESPACES", "my_rules,my_broken")
    assert function("selector.score", "my_rules.loud")(3) == 6
    for path, reason in (
        ("my_rules.rmtree", "is not a function defined in my_rules"),
        ("my_rules.os.system", "is not a function"),
        ("my_rules.Quiet", "is not a function"),
        ("my_rules.nowhere", "can't be found"),
        ("my_broken.loud", "nothing_of_that_name"),
        ("os.system", "outside the known namespaces"),
        ("sumcirc.storage.writing.write_text", "outside the known namespaces"),
    ):
        with pytest.raises(UserError, match=reason) as refused:
            function("selector.score", path)
        assert "\n" not in str(refused.value)
    monkeypatch.delitem(sys.modules, "my_rules")
