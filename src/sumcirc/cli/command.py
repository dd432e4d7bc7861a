"""Converts the words of a command line to checked configurations, before any job starts.

Hydra composes configurations and launches jobs; this module adds what Hydra lacks: paths need no
quotes (words.py), an error is one line that names what was typed (messages.py), and what a launch
decides once is written out as overrides (implied.py), so that every job of a sweep, a launcher on
another machine and further processes started by Lightning compose the same configuration.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.cli.checkpoints import SWEEPER, Checkpoints, renamed, swept
from sumcirc.cli.draws import with_draws
from sumcirc.cli.dry_running import without_dry_run
from sumcirc.cli.implied import CONF, ONE_JOB, RUN_VERBS, complete, decide
from sumcirc.cli.searching import examples_of, searches
from sumcirc.cli.word_checks import check_choices
from sumcirc.cli.words import (
    added,
    by_key,
    joined,
    parse,
    paths_as_override,
    product,
    quoted_value,
)
from sumcirc.errors import UserError
from sumcirc.runtime.messages import Typed, one_line
from sumcirc.runtime.terminal import say
from sumcirc.schema import (
    UNTIL,
    LoggerConfig,
    SweepOrder,
    TrainConfig,
    TrainerConfig,
    old_words,
)
from sumcirc.schema.configuration import quoted, typed
from sumcirc.storage.reading import RecordError, check_yaml_folder
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import stored_config

if TYPE_CHECKING:
    from argparse import Namespace

    from hydra.core.override_parser.types import Override

LOGGING_VERBS = {*RUN_VERBS, "report"}
PATH_VERBS = {"report", "dashboard", "placement"}  # verbs for which words without `=` are paths

# overrides of Hydra's settings that concern the multirun rather than a job
LAUNCHING = ("hydra.mode=", "hydra/launcher=", "hydra.launcher.", "hydra/sweeper=", "hydra.sweep")

# Hydra launchers whose jobs run on this machine
LOCAL_LAUNCHERS = ("processes", "basic", "joblib", "submitit_local")

# options that would take a configuration from somewhere other than conf/VERB.yaml and the schema
REFUSED = {
    "config_name": "each verb has its own; your YAML files go into a folder for --config-dir",
    "config_path": "to add a folder of your own YAML files use --config-dir",
    "experimental_rerun": "it unpickles a file; a run directory is continued with resume=RUN_DIR",
}


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Attributes:
        verb: the verb, such as `train`.
        options: Hydra's options, parsed.
        flags: words of these options as typed.
        overrides: settings as overrides KEY=VALUE, including those that others imply.
        typed: the settings as the user typed them, for messages.
        each: overrides of the jobs of each checkpoint, if the command goes over several.
        dry_run: whether to print what would run, and run nothing.
    """

    verb: str
    options: Namespace
    flags: list[str]  # as typed
    overrides: list[str]
    typed: Typed = field(default_factory=Typed)
    each: tuple[list[str], ...] = ()
    dry_run: bool = False

    @property
    def sweeps(self) -> bool:
        """Whether the command has `-m`, for several jobs."""
        return self.options.multirun

    @property
    def makes_runs(self) -> bool:
        """Whether each job creates a run directory."""
        return self.verb in RUN_VERBS

    @property
    def starts(self) -> bool:
        """Whether the command runs jobs; options such as `--help` and `--cfg` only print text."""
        shown = ("help", "hydra_help", "cfg", "shell_completion", "info")
        return not any(getattr(self.options, name) for name in shown)


def read(verb: str, arguments: Sequence[str]) -> Command:
    """Parse the arguments after the verb, and add the overrides that they imply.

    Args:
        verb: the verb.
        arguments: the words after it.

    Raises:
        UserError: an option is unknown, an override can't be parsed, or overrides contradict each
            other.
    """
    # The parser has no public name. Hydra parses again; here we need to know which words are
    # options or overrides, and whether anything runs.
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> None:
        raise UserError(f"{message}; see `sumcirc {verb} --hydra-help`")

    parser.error = refuse  # type: ignore[method-assign]
    arguments, dry_run = without_dry_run(verb, joined(arguments))
    options = parser.parse_intermixed_args(arguments)
    for name, remedy in REFUSED.items():
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}={getattr(options, name)}: {remedy}")
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    options.overrides = with_draws(verb, options.overrides, options.multirun)
    words = by_key(options.overrides)
    if verb in PATH_VERBS:
        options.overrides = paths_as_override(options.overrides)
    if renamed(verb, options.overrides) != options.overrides:
        options.overrides = renamed(verb, options.overrides)
        words["after"] = words.pop("checkpoint")  # messages show what was typed
    command = Command(verb, options, flags, list(options.overrides), dry_run=dry_run)
    if options.shell_completion or options.hydra_help:
        return command
    found = swept(verb, options.overrides, options.multirun)
    if found is not None and not options.multirun:  # as if the user had typed -m
        options.multirun = True
        flags.append("--multirun")
    overrides = [
        found.override if found and item == found.typed else added(quoted_value(item))
        for item in options.overrides
    ]
    parsed = {item.key_or_group: item for item in parse(overrides)}
    varied = {key for key, item in parsed.items() if item.is_sweep_override()}
    typed = Typed(
        {key: word for key, word in words.items() if key not in varied},
        experiment=_experiment(options.config_dir, parsed),
    )
    command = replace(command, typed=typed)
    with typed.naming():
        if found is not None:
            derived, command = _over_checkpoints(command, found, overrides, parsed)
            overrides = command.overrides
        else:
            derived, overrides = complete(command, overrides, parsed)
    if os.environ.get("SUMCIRC_CACHE"):
        derived = {"cache_dir": f"SUMCIRC_CACHE={os.environ['SUMCIRC_CACHE']}"} | derived
    return replace(command, overrides=overrides, typed=replace(typed, derived=derived))


def _over_checkpoints(
    command: Command, found: Checkpoints, overrides: list[str], parsed: dict[str, Override]
) -> tuple[dict[str, str], Command]:
    """Complete a command that goes over several checkpoints.

    Returns:
        The typed word that implies each implied setting, and the command with the overrides of
        the jobs of each checkpoint.

    Raises:
        UserError: a sweeper was chosen, or as in `complete`.
    """
    if "hydra/sweeper" in parsed:
        word = parsed["hydra/sweeper"].input_line
        raise UserError(f"{word}: can't go over checkpoints ({found.typed}); leave it out")
    decided = decide(command, parsed)
    derived: dict[str, str] = {}
    each = []
    for path in found.paths:
        alone = found.alone(path)
        words = {**command.typed.words, found.setting: f"{found.setting}={path}"}
        one = replace(command, typed=replace(command.typed, words=words))
        (item,) = parse([alone])
        own = [alone if word == found.override else word for word in overrides]
        implied, own = complete(one, own, {**parsed, found.setting: item}, decided)
        each.append(own)
        derived |= dict.fromkeys(implied, found.typed)
    common = [*overrides, *decided, f"hydra/sweeper={SWEEPER}"]
    return derived, replace(command, overrides=common, each=tuple(each))


def _experiment(folder: str | None, parsed: dict[str, Override]) -> Path | None:
    """Return the YAML file of the experiment on the command line, or None."""
    item = parsed.get("experiment")
    if item is None or item.is_sweep_override() or not isinstance(item.value(), str):
        return None
    places = [
        Path(place, "experiment", f"{item.value()}.yaml") for place in (folder, CONF) if place
    ]
    return next((file for file in places if file.is_file()), None)


def compose(command: Command) -> list[Any]:
    """Return the configuration of every job of a command, as dataclasses.

    A command without `-m` has one job. For each old name of a setting's value that the user typed,
    a line with the new name is printed.

    Raises:
        UserError: a key is unknown, a value has the wrong type, settings contradict each other, or
            two jobs have the same name.
    """
    import hydra

    found = []
    with _search_path(command) as extra, warnings.catch_warnings(), old_words() as renamed:
        warnings.filterwarnings("error", message="provider=.* is not available")
        for overrides in _jobs(command):
            check_choices(command.verb, overrides)
            try:
                config = hydra.compose(command.verb, [*extra, *overrides], return_hydra_config=True)
            # any error while composing is due to the user's input, since there is no other input
            except Exception as error:
                raise UserError(one_line(error)) from error
            found.append(typed(config))
    if command.verb in RUN_VERBS:
        names = [config.run.name for config in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two jobs would be named {twice[0]}: remove the repeated value")
    if not command.typed.words.keys() >= ONE_JOB:
        words = command.typed.words.values()
        for old, new in renamed.items():
            word = next((word for word in words if re.search(rf"\b{old}\b", word)), old)
            say(f"{word}: `{old}` is called `{new}` now; the old word works until {UNTIL}")
    return found


def ordered(command: Command, configs: Sequence[Any]) -> tuple[Command, list[Any]]:
    """Return a command and its configurations in the order in which the jobs are to start.

    Hydra's sweeper varies the first setting on the command line last. For `sweep.order=seed` that
    has to be the seed.

    Args:
        command: the command.
        configs: configurations of its jobs.
    """
    seeds = [item for item in command.overrides if item.partition("=")[0] == "seed"]
    wanted = command.sweeps and command.verb in RUN_VERBS and not command.each and seeds
    if not wanted or configs[0].sweep.order is not SweepOrder.seed:
        return command, list(configs)
    others = [item for item in command.overrides if item not in seeds]
    given = list(dict.fromkeys(config.seed for config in configs))
    found = sorted(configs, key=lambda config: given.index(config.seed))
    return replace(command, overrides=[*seeds, *others]), found


def words_of_job(command: Command, overrides: Any) -> list[str]:
    """Return the words after the verb in a command that runs one of the jobs by itself.

    For a command with one job these are the words as typed. Words of a training job include all
    implied settings, since its further processes have to compose the same configuration.

    Args:
        command: the command.
        overrides: `hydra.overrides` in the job's configuration.
    """
    if not command.sweeps and command.verb != "train":
        return [*command.options.overrides, *command.flags]
    own = [item for item in overrides.hydra if not item.startswith(LAUNCHING)]
    folder = command.options.config_dir
    return [*overrides.task, *own, *(["--config-dir", folder] if folder else [])]


def folders(command: Command, configs: Sequence[Any]) -> dict[str, str]:
    """Return the folders that a command's jobs write to, by the name of the setting for each.

    Args:
        command: the command.
        configs: configurations of the command's jobs.
    """
    typed = command.typed.words
    wanted = ("hydra.run.dir", "resume")
    found = {key: typed[key].partition("=")[2] for key in wanted if key in typed}
    if "resume" in found:
        configs = [
            stored_config(RunDirectory.open(Path(found["resume"]).expanduser()), TrainConfig)
        ]
    for config in configs:
        for key in ("out", "cache_dir", "runs_dir"):
            value = getattr(config, key, None)
            found |= {key: value} if value and key not in found else {}
    return found


def launcher(command: Command) -> str:
    """Return the name of the Hydra launcher that a command's files and overrides choose."""
    import hydra

    with _search_path(command) as extra:
        overrides = [*extra, *_jobs(command)[0]]
        config = hydra.compose(command.verb, overrides, return_hydra_config=True)
    return str(config.hydra.runtime.choices["hydra/launcher"])


def for_any_machine(config: Any) -> Any:
    """Return a configuration with the default trainer settings in place of its own.

    It can be checked here even if the job will run on another machine with other devices.
    """
    return replace(config, trainer=TrainerConfig()) if hasattr(config, "trainer") else config


def check_curves(verb: str, logger: LoggerConfig) -> None:
    """Refuse loggers of curves for a verb that logs none.

    Args:
        verb: the verb.
        logger: the configured loggers.

    Raises:
        UserError: the verb isn't `train`, and loggers other than W&B are chosen.
    """
    if verb != "train" and logger.curves:
        raise UserError(
            f"{logger.curves[0]}: is for sumcirc train; use logger=wandb or logger=none, and find"
            f" the results of sumcirc {verb} in its folder"
        )


def is_counted(command: Command) -> bool:
    """Return whether all jobs of a command are known before the first one runs.

    They are not if a sweeper chooses further jobs by the results of earlier ones.
    """
    parsed = parse(command.overrides)
    if command.each:
        return True
    open_ended = any(item.is_sweep_override() and not item.is_discrete_sweep() for item in parsed)
    return not open_ended and "hydra/sweeper" not in {item.key_or_group for item in parsed}


@contextmanager
def _search_path(command: Command) -> Iterator[list[str]]:
    """Initialize Hydra's compose API; yield overrides equivalent to `--config-dir`."""
    import hydra

    folder = command.options.config_dir
    if folder is not None:
        _check_config_dir(folder)
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        given = [item for item in command.overrides if item.startswith("hydra.searchpath=")]
        path = f"file://{os.path.abspath(folder)}" if folder else ""
        yield [f"hydra.searchpath=[{quoted(path)}]"] if folder and not given else []


def _check_config_dir(folder: str) -> None:
    """Check the YAML files of `--config-dir` before Hydra expands their aliases."""
    if not os.path.isdir(folder):
        raise UserError(f"--config-dir={folder}: no such folder")
    try:
        check_yaml_folder(folder)
    except RecordError as error:
        raise UserError(f"--config-dir={folder}: {error.below(Path(folder))}") from None


def _jobs(command: Command) -> list[list[str]]:
    """Return the overrides of every job: all combinations of swept values, as Hydra's sweeper does.

    Sweeps that can't be counted (`interval(0,1)` of an optimizing sweeper) are not expanded here.
    """
    if not command.sweeps:
        return [command.overrides]
    if searches(command):
        return examples_of(command.overrides)
    return [job for overrides in command.each or (command.overrides,) for job in product(overrides)]


def jobs_over_checkpoints(command: Command) -> list[list[str]]:
    """Return the overrides of each job of a sweep over checkpoints, without Hydra's own settings.

    Hydra applies its own settings to the sweep as a whole.
    """
    return [
        [item for item in job if not item.lstrip("+~").startswith(("hydra.", "hydra/"))]
        for job in _jobs(command)
    ]
