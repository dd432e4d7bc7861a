"""References to models: a run directory, an adapter, a model folder, a hub id or `tiny`.

Only `reference` distinguishes them and reads an adapter's folder. Every way to name a model
(`checkpoint=`, `before=`, `after=`, `selector.after=`, the library) goes through it, so that an
adapter's base, revision and tokenizer are used wherever the adapter is named.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sumcirc.errors import UserError
from sumcirc.models.loading import (
    ADAPTER,
    holds_tokenizer,
    is_adapter,
    looks_like_folder,
    resolve_path,
)
from sumcirc.models.weight_files import weight_files
from sumcirc.runtime.messages import one_line
from sumcirc.schema import ModelConfig
from sumcirc.schema.configuration import literal
from sumcirc.storage import hub
from sumcirc.storage.reading import RecordError, read_json
from sumcirc.tracking.run_directory import RunDirectory


class AdapterSettings(TypedDict):
    """The fields of PEFT's adapter_config.json that are read here."""

    base_model_name_or_path: NotRequired[str | None]
    revision: NotRequired[str | None]


@dataclass(frozen=True)
class ModelReference:
    """Names a model and the location of its files; nothing is loaded.

    Attributes:
        name: short name for tables and files.
        model: the whole model to load first: the base of an adapter, the model from which a run
            started, or otherwise the referenced model itself.
        weights: folder of an adapter or of a run's trained model; None if `model` is the referenced
            model.
        setting: name of the setting that names the model, for error messages.
        value: value of this setting as typed; None if it is the path of `model`.
    """

    name: str
    model: ModelConfig
    weights: Path | None = None
    setting: str = "model.path"
    value: str | None = None

    @property
    def adapted(self) -> bool:
        """Whether the referenced model is an adapter on a base model."""
        return self.weights is not None and is_adapter(self.weights)

    @property
    def given(self) -> str:
        """The text `SETTING=VALUE` with which error messages about this model begin."""
        return f"{self.setting}={self.model.path if self.value is None else self.value}"

    @property
    def model_setting(self) -> str:
        """The setting's name in error messages about `model`."""
        return self.setting if self.weights is None else f"{self.given}: base model"

    @property
    def whole(self) -> ModelConfig:
        """The whole model to load: the base if this is an adapter, otherwise the model itself."""
        if self.weights is None or self.adapted:
            return self.model
        return replace(self.model, path=str(self.weights), revision=None)

    @property
    def base(self) -> ModelReference:
        """A reference to the base of an adapter or training run; `self` for other models."""
        if self.weights is None:
            return self
        return ModelReference(_short_name(self.model.path), self.model, None, self.model_setting)

    def is_on(self, other: ModelReference) -> bool:
        """Return whether this is an adapter whose base is a given other model.

        One loaded model can then serve as both models.

        Args:
            other: reference to the other model.
        """
        return self.adapted and other.weights is None and same_model(self.model, other.model)


def reference(value: str, setting: str) -> ModelReference:
    """Return the reference to the model that a setting's value names, without reading weights.

    Args:
        value: a run directory, an adapter, a model folder, a hub id or `tiny`.
        setting: name of the setting, for error messages.

    Raises:
        UserError: a run didn't finish or didn't train a model, an adapter doesn't name its base, or
            the base doesn't exist.
    """
    path = Path(value).expanduser()
    run = training_run(path, setting)
    if run is not None:
        return ModelReference(path.name, _stored_model(run), run.trained, setting, value)
    if is_adapter(path):
        model = _adapter_model(path, f"{setting}={value}")
        return ModelReference(path.resolve().name, model, path, setting, value)
    name = path.resolve().name if path.is_dir() else _short_name(value)
    return ModelReference(name, ModelConfig(name=name, path=value), None, setting, value)


def training_run(path: Path, setting: str) -> RunDirectory | None:
    """Return the training run in a folder, or None if the folder isn't a run directory.

    Args:
        path: the folder.
        setting: name of the setting that names the folder, for error messages.

    Raises:
        UserError: the folder is the run directory of a subcommand that trains nothing.
    """
    run = RunDirectory(path)
    if not (run.config_file.exists() and run.status_file.exists()):
        return None
    verb = run.read_config()["verb"]
    if verb != "train":
        raise UserError(f"{setting}={path}: is a run of `sumcirc {verb}`, which trains nothing")
    return run


def same_model(one: ModelConfig, other: ModelConfig) -> bool:
    """Return whether two models have the same weights, judged by their files.

    The weights are the same if the two are quantized in the same way (or not at all) and are one
    folder, one commit of one hub repository, or two folders whose weight files are equal byte by
    byte.

    Args:
        one, other: settings of the two models, of which the path (or hub id), the revision and the
            quantization are used.
    """
    if one.quantize is not other.quantize:
        return False
    places = [resolve_path(model.path, "model.path") for model in (one, other)]
    if (places[0], one.revision) == (places[1], other.revision):
        return True
    folders = [Path(place) for place in places]
    if all(folder.is_dir() for folder in folders):
        first, second = (folder.resolve() for folder in folders)
        return first == second or _weights_digest(first) == _weights_digest(second)
    if any(folder.is_dir() for folder in folders):
        return False
    commits = [
        hub.require_hub(place, "model.path", revision=model.revision).commit
        for place, model in zip(places, (one, other), strict=True)
    ]
    return commits[0] is not None and commits[0] == commits[1]


@lru_cache
def _weights_digest(folder: Path) -> str:
    digest = hashlib.blake2b()
    for path in weight_files(folder, str(folder)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _stored_model(run: RunDirectory) -> ModelConfig:
    """Read from a run's configuration which model it started from."""
    stored = run.read_config()["config"].get("model")
    try:
        shape = OmegaConf.create({"model": OmegaConf.structured(ModelConfig)})
        merged: Any = OmegaConf.to_object(OmegaConf.merge(shape, literal({"model": stored})))
        found = merged["model"]
    except (OmegaConfBaseException, UserError) as error:
        raise UserError(f"{run.config_file}: {one_line(error)}") from None
    if not isinstance(found, ModelConfig):
        raise UserError(f"{run.config_file}: model={stored}: must be a section of settings")
    return found


def _adapter_model(folder: Path, given: str) -> ModelConfig:
    """Read from an adapter's folder which base model, revision and tokenizer it needs."""
    file = folder / ADAPTER
    try:
        settings: AdapterSettings = read_json(file, AdapterSettings)
    except RecordError as error:
        key = f"`{error.key}` " if error.key else ""
        raise UserError(f"{given}: {ADAPTER} {key}{error.reason}") from None
    base = settings.get("base_model_name_or_path")
    if not base:
        raise UserError(
            f"{given}: the adapter does not name its base model; set base_model_name_or_path in"
            f" {file}"
        )
    if not Path(base).expanduser().exists() and (folder / base).is_dir():
        base = str(folder / base)
    elif looks_like_folder(base) and not Path(base).expanduser().is_dir():
        raise UserError(
            f"{given}: the adapter's base model {base} does not exist; correct"
            f" base_model_name_or_path in {file}"
        )
    tokenizer = str(folder) if holds_tokenizer(folder) else None
    # PEFT doesn't record how the base was quantized; the run that the adapter lies in does
    run = RunDirectory(folder.resolve().parent)
    ours = run.adapter == folder.resolve() and run.config_file.exists()
    return ModelConfig(
        name=_short_name(base),
        path=base,
        revision=settings.get("revision") or None,
        tokenizer=tokenizer,
        quantize=_stored_model(run).quantize if ours else None,
    )


def _short_name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
