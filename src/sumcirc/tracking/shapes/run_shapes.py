"""The shapes of status.json and config.yaml, as far as readers of runs rely on them."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from sumcirc.storage.reading import Count, Keys
from sumcirc.tracking.shapes.common_shapes import Format, Scalar, Seconds, State, Verb


class Status(TypedDict):
    """Contents of status.json.

    Attributes:
        state: `pending`, `running`, `done` or `failed`.
        format: format of the run's records (`record_format`).
        verb: the command that made the run.
        reason: why the run failed or was stopped; null otherwise.
        created, updated, started: local times; `started` is that of the last start or resume.
        seconds: wall time of the run in seconds, summed over all resumes.
        resumed: number of times the run was resumed.
        steps: total number of optimizer steps.
        process, host: id and machine of the process that last ran the run.
        wandb_id: id of the run in W&B.
        wandb_names: version of the names that the run logs to W&B (`wandb_values.NAMES`); a run of
            version 0.1 has none.
        mlflow_run: id of the run in MLflow, with `logger=mlflow`.
        traceback: name of the file that contains the traceback; null if there is none.
        data: hash of the documents of each split, by the split's name.
    """

    state: State
    format: NotRequired[Format]
    verb: NotRequired[Verb]
    reason: NotRequired[str | None]
    created: NotRequired[str]
    updated: NotRequired[str]
    started: NotRequired[str]
    seconds: NotRequired[Seconds]
    resumed: NotRequired[Count]
    steps: NotRequired[Count]
    process: NotRequired[int]
    host: NotRequired[str]
    wandb_id: NotRequired[str]
    wandb_names: NotRequired[Count]
    mlflow_run: NotRequired[str]
    traceback: NotRequired[str | None]
    data: NotRequired[dict[str, str]]


class ModelSettings(TypedDict):
    """The settings under `model` that readers of a run use."""

    name: str
    path: NotRequired[str]


class DataSettings(TypedDict):
    """The settings under `data` that readers of a run use."""

    name: NotRequired[str]
    seed: NotRequired[int]
    sizes: NotRequired[dict[str, int | None]]


class SelectorSettings(TypedDict):
    """The settings under `selector` that readers of a run use."""

    name: NotRequired[str | None]
    seed: NotRequired[int | None]
    preset: NotRequired[str | None]
    layers: NotRequired[list[int] | None]
    score: NotRequired[str | None]


class AdaptationSettings(TypedDict):
    """The settings under `adaptation` that readers of a run use."""

    kind: str
    layers: str | list[int]


class OptimizerSettings(TypedDict):
    """The settings under `optimizer` that readers of a run use."""

    learning_rate: float


class LoggerSettings(TypedDict):
    """The settings under `logger` that readers of a run use."""

    kind: NotRequired[str | None]  # of runs of version 0.1 before `wandb`
    wandb: NotRequired[bool | None]
    project: str
    entity: NotRequired[str | None]


class SweepSettings(TypedDict):
    """The settings under `sweep` that readers of a run use."""

    name: str


class RunSettings(TypedDict):
    """The settings under `run` that readers of a run use.

    Attributes:
        axes: value of each setting that the run's sweep varies, by the setting's name.
    """

    axes: NotRequired[dict[str, Scalar | list[Any]]]


class Settings(TypedDict):
    """The settings of a configuration that readers of a run use, by section."""

    seed: NotRequired[int]
    model: NotRequired[ModelSettings]
    data: NotRequired[DataSettings]
    adaptation: NotRequired[AdaptationSettings]
    selector: NotRequired[SelectorSettings | None]
    optimizer: NotRequired[OptimizerSettings]
    logger: NotRequired[LoggerSettings]
    sweep: NotRequired[SweepSettings]
    run: NotRequired[RunSettings]


# settings that readers of runs rely on; comparisons of arms also need those of training
OF_EVERY_RUN = ("seed", "model", "logger", "sweep", "run")
RunConfig = Annotated[Settings, Keys(OF_EVERY_RUN)]
TrainConfig = Annotated[Settings, Keys((*OF_EVERY_RUN, "adaptation", "optimizer"))]


class Environment(TypedDict):
    """The section `environment` of config.yaml: what is needed to repeat the run.

    Attributes:
        sumcirc, python, platform: versions of this package, of Python and of the system.
        packages: version of each library; null if it is not installed.
        commit: git commit of this package's code; null if it is not in a checkout.
        command: words of the command that made the run.
    """

    sumcirc: NotRequired[str]
    python: NotRequired[str]
    platform: NotRequired[str]
    packages: NotRequired[dict[str, str | None]]
    commit: NotRequired[str | None]
    command: NotRequired[list[str]]


class ExtensionRecord(TypedDict):
    """Steps that were added to a finished run, in config.yaml.

    Attributes:
        from_step, to_step: number of optimizer steps before and after.
        schedule: learning rate of the added steps, a value of `trainer.extension`.
    """

    from_step: Count
    to_step: Count
    schedule: str


class ConfigFile(TypedDict):
    """Contents of config.yaml: the run's verb, settings and environment, and added steps."""

    format: NotRequired[Format]
    verb: Verb
    config: dict[str, Any]  # `RunConfig`, where more than the values of settings is needed
    environment: Environment
    extensions: NotRequired[list[ExtensionRecord]]
