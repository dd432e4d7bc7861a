"""What `checkpoint=` may name, and the configuration that it brings along.

A run directory brings its model, data, encoding and decoding; an adapter its base; a folder or hub
id is the model itself. What the user gives on the command line wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from sumcirc.configuration import quoted
from sumcirc.errors import UserError
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.run_records import RunRecords

ADAPTER = "adapter_config.json"  # PEFT's
SECTIONS = ("model", "data", "encoding", "evaluation", "generation")


def overrides_of(
    checkpoint: str,
    given: Set[str],
    sections: Sequence[str] = SECTIONS,
    setting: str = "checkpoint",
) -> list[str]:
    """Overrides that a checkpoint stands for; groups in `given` are the user's own.

    Args:
        sections: those that the verb has.
        setting: that names the checkpoint.

    Raises:
        UserError: a model or an experiment is named beside the checkpoint, or an adapter does not
            name its base.
    """
    if "model" in given or "model.path" in given:
        raise UserError(f"{setting}={checkpoint}: brings its model; leave model= out")
    path = Path(checkpoint)
    if _run(path, setting) is not None:
        return overrides_of_run(checkpoint, given, sections, setting)
    if "experiment" in given and setting == "checkpoint":
        raise _no_experiment(checkpoint, setting)
    if (path / ADAPTER).exists():
        base = _base_of(path)
        return [f"model.path={quoted(base)}", f"model.name={quoted(path.resolve().name)}"]
    name = path.resolve().name if path.is_dir() else checkpoint.rsplit("/", 1)[-1]
    return [f"model.path={quoted(checkpoint)}", f"model.name={quoted(name)}"]


def overrides_of_run(
    checkpoint: str, given: Set[str], sections: Sequence[str], setting: str
) -> list[str]:
    """Overrides of some sections by a run's own settings; none where it is no run.

    Raises:
        UserError: an experiment is named beside it.
    """
    run = _run(Path(checkpoint), setting)
    if run is None:
        return []
    if "experiment" in given:
        raise _no_experiment(checkpoint, setting)
    stored = run.read_config()["config"]
    brought = [name for name in sections if name not in given]
    return [item for name in brought for item in _flat(name, stored.get(name, {}))]


def base_overrides(checkpoint: str, given: Set[str]) -> list[str]:
    """Overrides of `model` by what a run or an adapter was trained from.

    Raises:
        UserError: it is neither, or names no base.
    """
    path = Path(checkpoint)
    if _run(path, "after") is None and not (path / ADAPTER).exists():
        raise UserError(
            f"after={checkpoint}: is no run and no adapter, so it isn't known what it was trained"
            " from; name that with before=MODEL"
        )
    return overrides_of(checkpoint, given, ("model",), "after")


def _no_experiment(checkpoint: str, setting: str) -> UserError:
    # what is brought would win over the experiment's file, unseen
    return UserError(
        f"{setting}={checkpoint}: brings its settings, so experiment= has no say; give the"
        " settings that are to differ one by one"
    )


def model_of(checkpoint: str, setting: str) -> dict[str, Any]:
    """The section `model` that a checkpoint stands for: of a run its own, else a path.

    Raises:
        UserError: an adapter does not name its base, a run is none of training.
    """
    path = Path(checkpoint)
    run = _run(path, setting)
    if run is not None:
        return dict(RunRecords(path).config["model"])
    name = path.resolve().name if path.is_dir() else checkpoint.rsplit("/", 1)[-1]
    return {"name": name, "path": _base_of(path) if (path / ADAPTER).exists() else checkpoint}


def weights_of(checkpoint: str) -> Path | None:
    """The folder whose weights are evaluated; None where they are `model.path`'s own.

    Raises:
        UserError: a run directory whose training did not finish.
    """
    path = Path(checkpoint)
    run = _run(path)
    if run is not None:
        return run.trained
    return path if (path / ADAPTER).exists() else None


def _run(path: Path, setting: str = "checkpoint") -> RunDirectory | None:
    """The training run in `path`; None where no run is there."""
    run = RunDirectory(path)
    if not (run.config_file.exists() and run.status_file.exists()):
        return None
    verb = run.read_config()["verb"]
    if verb != "train":
        raise UserError(f"{setting}={path}: is a run of `sumcirc {verb}`, which trains nothing")
    return run


def _base_of(adapter: Path) -> str:
    try:
        found = json.loads((adapter / ADAPTER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"checkpoint={adapter}: {ADAPTER} is not JSON ({error})") from None
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    if not isinstance(base, str) or not base:
        raise UserError(f"checkpoint={adapter}: its {ADAPTER} names no base model")
    return base


def _flat(prefix: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}", inner)
    else:
        yield f"{prefix}={_literal(value)}"


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    return quoted(value) if isinstance(value, str) else repr(value)
