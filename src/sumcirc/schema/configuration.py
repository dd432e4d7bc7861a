"""Composed configurations: schemas and resolvers for Hydra, dataclasses, and run names."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import re
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sumcirc import schema
from sumcirc.errors import UserError
from sumcirc.runtime.messages import did_you_mean, one_line
from sumcirc.schema.lists import list_elements

LARGEST = 2**63 - 1  # largest integer that torch and Arrow accept
LAYERS = "adaptation.layers"
NAME_LENGTH = 40  # characters of one value in a run name
CHECKPOINT_LENGTH = 80  # characters of the checkpoint's name in it


def register() -> None:
    """Register this package's schemas with Hydra and its resolvers with OmegaConf.

    Repeated calls have no further effect.
    """
    from hydra.core.config_store import ConfigStore

    OmegaConf.register_new_resolver("multiply", lambda a, b: float(a) * float(b), replace=True)
    OmegaConf.register_new_resolver(
        "by_selector", lambda found: "all" if found is None else schema.AUTO, replace=True
    )
    OmegaConf.register_new_resolver(
        "unless", lambda other, value: value if other is None else None, replace=True
    )
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("run_axes", run_axes, replace=True)
    OmegaConf.register_new_resolver("cache_dir", default_cache, replace=True)
    store = ConfigStore.instance()
    for name, node in (
        ("train_schema", schema.TrainConfig),
        ("evaluate_schema", schema.EvaluateConfig),
        ("circuit_schema", schema.CircuitConfig),
        ("compare_schema", schema.CompareConfig),
        ("pairs_schema", schema.PairsConfig),
        ("select_schema", schema.SelectConfig),
        ("pretrain_schema", schema.PretrainConfig),
        ("report_schema", schema.ReportConfig),
        ("dashboard_schema", schema.DashboardConfig),
        ("placement_schema", schema.PlacementConfig),
    ):
        store.store(name=name, node=node)


def run_name(*, _root_: Any) -> str:
    """Return the default name of a run, such as `tiny-wire-lora-2,3,5-r16-s1`.

    It has the model, the data, the adaptation, `permuted` where the summaries are, the other
    settings that a multirun varies, and the seed. Called as an OmegaConf resolver, which passes the
    configuration of the job.
    """
    config = _root_
    # a file or a built-in set of prompts, in place of the data
    given = OmegaConf.select(config, "pairs") or OmegaConf.select(config, "prompts")
    event = OmegaConf.select(config, "data.event")
    data = config.data.name if event is None else f"{config.data.name}+{event}"
    parts = [config.model.name, Path(given).stem if given else data]
    varied = _varied(config)
    over = next((key for key in ("checkpoint", "after") if varied.get(key)), None)
    if over is not None:
        names = listed(varied[over] if isinstance(varied[over], str) else list(varied[over]))
        parts[0] = "+".join(map(_checkpoint_name, names))
    elif "after" in config:
        parts.insert(1, _after_name(config.after))
    adaptation = OmegaConf.select(config, "adaptation")
    known = {"model", "data", "data.event", "adaptation", "seed", "checkpoint", "after"}
    if adaptation is not None:
        adapted = adaptation.kind is schema.Adaptation.lora
        parts.append((adaptation.variant if adapted else adaptation.kind).value)
        if adapted:
            parts.append(_layers_name(adaptation.layers, OmegaConf.select(config, "selector")))
            if list(adaptation.modules) != list(schema.MODULES):
                parts.append("+".join(map(str, adaptation.modules)))
            sizes = {"r": adaptation.rank, "b": adaptation.budget}
            parts += [f"{key}{size}" for key, size in sizes.items() if size is not None][:1]
            keys = ("variant", "layers", "modules", "rank", "budget")
            known |= {f"adaptation.{key}" for key in keys}
            known |= {
                "selector",
                *(f"selector.{key}" for key in ("count", "layers", "preset", "score")),
            }
        permuted = OmegaConf.select(config, "data.permute_summaries")
        known.add("data.permute_summaries")
        parts += [] if permuted is None else [f"permuted{permuted}"]
    for key, value in varied.items():
        if key not in known:
            parts.append(f"{key.rsplit('.', 1)[-1]}={_commas(value)}")
    parts.append(f"s{config.seed}")
    first = CHECKPOINT_LENGTH if over is not None else NAME_LENGTH
    lengths = [first, *(NAME_LENGTH for _ in parts[1:])]
    return "-".join(map(_as_file_name, map(str, parts), lengths))


def _checkpoint_name(path: str) -> str:
    """Return a short name for a checkpoint: the last two parts of its path, joined by `_`.

    For a run it is `SWEEP_RUN`, for an adapter of a run `RUN_adapter`, for a hub id `OWNER_MODEL`.
    """
    return "_".join(Path(path).parts[-2:])


def _after_name(after: Any) -> str:
    names = [after] if isinstance(after, str) else list(after)
    return "+".join(Path(str(name)).name for name in names)


def run_axes(*, _root_: Any) -> dict[str, Any]:
    """Return the run's value of each setting that a multirun varies, by the setting's name.

    A list becomes a text such as `2,3,5`. Called as an OmegaConf resolver, which passes the
    configuration of the job.
    """
    plain = (str, int, float, bool, type(None))
    return {
        # layers `3` and `[3]` are the same
        key: value if isinstance(value, plain) and key != LAYERS else _commas(value)
        for key, value in _varied(_root_).items()
    }


def _varied(config: Any) -> dict[str, Any]:
    """Return the values of keys, and choices of groups, that a multirun varies."""
    choices = _choices(config)
    values = {
        key: choices[key] if key in choices else OmegaConf.select(config, key)
        for key in config.run.varied
    }
    return {key: value.name if isinstance(value, Enum) else value for key, value in values.items()}


def _layers_name(layers: Any, selector: Any) -> str:
    """Return the layers or their selector: `2,3,5`, `all`, `circuit`, `random3`, `fixed-1,4`."""
    if layers != schema.AUTO or selector.name is None:
        return _commas(layers)
    if selector.preset is not None:
        return selector.preset.value
    if selector.layers is not None:
        return f"{selector.name.value}-{_commas(selector.layers)}"
    if selector.score is not None:
        return f"{selector.score}{selector.count or ''}"
    every = selector.name is schema.SelectorName.all
    return f"{selector.name.value}{'' if every else selector.count or ''}"


def _commas(value: Any) -> str:
    """Format a list as `2,3,5` and a single value as itself."""
    values = value if isinstance(value, (list, ListConfig)) else [value]
    return ",".join(one.name if isinstance(one, Enum) else str(one) for one in values)


def typed(config: DictConfig) -> Any:
    """Return a configuration composed by Hydra as a dataclass, without Hydra's own settings.

    Raises:
        UserError: a value is missing, a key was added with `+`, or values contradict each other.
    """
    try:
        passed = next(_let_pass(config), None)
        if passed is not None:
            raise UserError(passed)
        config = copy.deepcopy(config)
        if "run" in config:
            # these refer to Hydra's settings
            config.run.name = str(config.run.name)
            config.run.axes = dict(config.run.axes)
        with open_dict(config):
            config.pop("hydra", None)
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{missing[0]}: is not set; give {missing[0]}=VALUE")
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error


def literal(value: Any) -> Any:
    """Return a copy of a value in which `${` is escaped, so that OmegaConf takes it as text.

    Args:
        value: a text, number or container of them, whose interpolations are already resolved.
    """
    if isinstance(value, dict):
        return {key: literal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [literal(part) for part in value]
    if isinstance(value, str):
        # a backslash escapes it, and backslashes before it are doubled
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    return value


def quoted(value: str) -> str:
    """Return a text in quotes of Hydra's override grammar, so that it is taken literally."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(literal(value), Quote.single).with_quotes()


def _let_pass(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield messages about mistakes that OmegaConf accepts.

    These are unknown keys added with `+`, a section that refers to something else, containers in
    lists of texts or numbers, and integers beyond 64 bits.
    """
    schema_type: Any = OmegaConf.get_type(node)
    known = [field.name for field in dataclasses.fields(schema_type)]
    elements, kinds = list_elements(schema_type), typing.get_type_hints(schema_type)
    for name in map(str, node):
        if not prefix and name == "hydra":
            continue
        key, is_section = f"{prefix}{name}", dataclasses.is_dataclass(kinds.get(name))
        if name not in known:
            yield f"{key}: no such setting{did_you_mean(name, known)}; see `--cfg job`"
        elif OmegaConf.is_missing(node, name):
            continue
        elif is_section and OmegaConf.get_type(node, name) is not kinds[name]:
            given: Any = OmegaConf.to_container(node)
            yield f"{key}={given[name]}: stands for settings; give {key}.NAME=VALUE"
        elif is_section:
            yield from _let_pass(node[name], f"{key}.")
        elif OmegaConf.is_interpolation(node, name):
            continue
        elif isinstance(node[name], int) and abs(node[name]) > LARGEST:
            yield f"{key}={node[name]}: must be a whole number up to {LARGEST}"
        elif name in elements and typing.get_origin(elements[name]) is None:
            held = [one for one in node[name] or [] if OmegaConf.is_config(one)]
            if held:
                yield f"{key}={node[name]}: must be a list of single values, not of {held[0]}"


def _choices(config: DictConfig) -> dict[str, Any]:
    """Return the chosen file of each group."""
    from hydra.core.hydra_config import HydraConfig

    found = OmegaConf.select(config, "hydra.runtime.choices")
    if found is None and HydraConfig.initialized():
        found = HydraConfig.get().runtime.choices
    return {} if found is None else {str(key): value for key, value in found.items()}


def _as_file_name(value: str, length: int = NAME_LENGTH) -> str:
    """Return a value as part of a folder name; a long value keeps its start and a hash."""
    name = re.sub(r"[^\w.,=+-]+", "_", value)
    if name == value and len(name) <= length:
        return name
    digest = hashlib.sha256(value.encode()).hexdigest()[:6]
    return f"{name[:length].strip('_')}~{digest}"


def default_cache() -> str:
    """Return the user's cache folder (XDG), or $SUMCIRC_CACHE."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("SUMCIRC_CACHE") or os.path.join(home, "sumcirc")


def listed(value: Any) -> list[str]:
    """Return the names in a setting's value as a list, with `~` expanded.

    Args:
        value: a list of names, a single name, or a text such as `[ONE,OTHER]`, which is what
            Hydra's grammar gives for a list of some names.
    """
    if isinstance(value, list):
        return [os.path.expanduser(str(name)) for name in value]
    text = str(value)
    if not (text.startswith("[") and text.endswith("]")) or os.path.exists(text):
        return [os.path.expanduser(text)]
    pieces, found = text[1:-1].split(","), []
    while pieces:
        # the longest name that exists, else up to the next comma
        joined = [",".join(pieces[:size]).strip() for size in range(len(pieces), 0, -1)]
        name = next(
            (name for name in joined if os.path.exists(os.path.expanduser(name))), joined[-1]
        )
        found.append(os.path.expanduser(name))
        pieces = pieces[name.count(",") + 1 :]
    return found


def model_path(name: str, conf: Path) -> str:
    """Return the path or hub id of a model that is named by a file in conf/model.

    Any other value is returned unchanged.

    Args:
        name: the name of a file in conf/model without its ending, a path or a hub id.
        conf: the folder conf/.
    """
    file = conf / "model" / f"{name}.yaml"
    if "/" in name or not file.is_file() or os.path.exists(name):
        return name
    return str(OmegaConf.select(OmegaConf.load(file), "path"))
