"""From the words of a command line to checked configurations, before any job starts.

Hydra composes and launches; this is what it leaves open: paths need no quotes, a mistake is one
line, and what a launch decides once (its directory, what a multirun varies, what a checkpoint
brings along) is written out as overrides, so that every job of a sweep, a launcher on another
machine and Lightning's further processes compose the same configuration.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.configuration import listed, model_path, typed
from sumcirc.errors import UserError
from sumcirc.messages import Typed, one_line
from sumcirc.schema import ModelConfig, TrainConfig
from sumcirc.tracking.checkpoint_source import (
    SECTIONS,
    base_overrides,
    overrides_of,
    overrides_of_run,
    quoted,
)
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import stored_config
from sumcirc.words import by_key, joined, parse, paths_as_override, quoted_value

if TYPE_CHECKING:
    from argparse import Namespace

    from hydra.core.override_parser.types import Override

CONF = Path(__file__).resolve().parent / "conf"
RUN_VERBS = {"train", "evaluate", "circuit", "compare", "select"}  # those that make a run directory

# those that read a model beside them, and what of a run's settings they take over
SECTIONS_OF = {"pairs": ("model", "data", "encoding", "evaluation")}
LOGGING_VERBS = {*RUN_VERBS, "report"}
PATH_VERBS = {"report", "dashboard"}  # those whose words without `=` are paths

# of conf/experiment: it sets nothing that a run brings, so it goes with runs that are compared
OF_PROMPTS = "rephrase"

# overrides of Hydra's own settings that speak of the multirun, not of a job
LAUNCHING = ("hydra.mode=", "hydra/launcher=", "hydra.launcher.", "hydra/sweeper=", "hydra.sweep")

# options that would take a configuration from elsewhere than conf/VERB.yaml and the schema
REFUSED = {
    "config_name": "each verb has its own; your YAML files go into a folder for --config-dir",
    "config_path": "to add a folder of your own YAML files use --config-dir",
    "experimental_rerun": "it unpickles a file; a run directory is continued with resume=RUN_DIR",
}


@dataclass(frozen=True)
class Command:
    """A verb with Hydra's options and the overrides."""

    verb: str
    options: Namespace
    flags: list[str]  # the options as they were typed
    overrides: list[str]
    typed: Typed = field(default_factory=Typed)

    @property
    def sweeps(self) -> bool:
        """Whether `-m` is there."""
        return self.options.multirun

    @property
    def makes_runs(self) -> bool:
        """Whether each job leaves a run directory."""
        return self.verb in RUN_VERBS

    @property
    def starts(self) -> bool:
        """Whether jobs run: nothing is only shown."""
        shown = ("help", "hydra_help", "cfg", "shell_completion", "info")
        return not any(getattr(self.options, name) for name in shown)


def read(verb: str, arguments: Sequence[str]) -> Command:
    """Take the arguments after the verb apart and write out what they imply.

    Raises:
        UserError: an unknown option, an override that is none, or overrides that don't go together.
    """
    # The parser has no public name. Hydra parses again; we need to know what is option, what is
    # override, and whether anything runs.
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> None:
        raise UserError(f"{message}; see `sumcirc {verb} --hydra-help`")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = joined(arguments)
    options = parser.parse_intermixed_args(arguments)
    for name, remedy in REFUSED.items():
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}={getattr(options, name)}: {remedy}")
    flags = list(arguments)
    for override in options.overrides:
        flags.remove(override)
    words = by_key(options.overrides)
    if verb in PATH_VERBS:
        options.overrides = paths_as_override(options.overrides)
    command = Command(verb, options, flags, list(options.overrides))
    if options.shell_completion or options.hydra_help:
        return command
    overrides = [quoted_value(item) for item in options.overrides]
    parsed = {item.key_or_group: item for item in parse(overrides)}
    swept = {key for key, item in parsed.items() if item.is_sweep_override()}
    typed = Typed({key: word for key, word in words.items() if key not in swept})
    command = replace(command, typed=typed)
    with typed.naming():
        derived, overrides = _complete(command, overrides, parsed)
    if os.environ.get("SUMCIRC_CACHE"):
        derived = {"cache_dir": f"SUMCIRC_CACHE={os.environ['SUMCIRC_CACHE']}"} | derived
    return replace(command, overrides=overrides, typed=replace(typed, derived=derived))


def compose(command: Command) -> list[Any]:
    """The configuration of every job, as dataclasses; one where nothing is swept.

    Raises:
        UserError: an unknown key, a wrong type, a contradiction, or two jobs of one name.
    """
    import hydra

    found = []
    with _search_path(command) as extra, warnings.catch_warnings():
        warnings.filterwarnings("error", message="provider=.* is not available")
        for overrides in _jobs(command):
            _check_words(overrides)
            try:
                config = hydra.compose(command.verb, [*extra, *overrides], return_hydra_config=True)
            # whatever goes wrong in composing is in what the user gave: nothing else went in
            except Exception as error:
                raise UserError(one_line(error)) from error
            found.append(typed(config))
    if command.verb in RUN_VERBS:
        names = [config.run.name for config in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two jobs would be named {twice[0]}: a value is given twice")
    return found


def words_of_job(command: Command, overrides: Any) -> list[str]:
    """What to give to the verb to run one job alone.

    Of a single job that is what was typed, but where training may start further processes: those
    have to compose the same, directory and all.

    Args:
        overrides: `hydra.overrides` of its configuration.
    """
    if not command.sweeps and command.verb != "train":
        return [*command.options.overrides, *command.flags]
    own = [item for item in overrides.hydra if not item.startswith(LAUNCHING)]
    folder = command.options.config_dir
    return [*overrides.task, *own, *(["--config-dir", folder] if folder else [])]


def folders(command: Command, configs: Sequence[Any]) -> dict[str, str]:
    """The settings that name folders which jobs write to, with their values; narrow ones first."""
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
    """Which launcher runs the jobs, after all files and overrides."""
    import hydra

    with _search_path(command) as extra:
        overrides = [*extra, *_jobs(command)[0]]
        config = hydra.compose(command.verb, overrides, return_hydra_config=True)
    return str(config.hydra.runtime.choices["hydra/launcher"])


def is_counted(command: Command) -> bool:
    """Whether all jobs are known beforehand: no sweeper makes up values as it goes."""
    parsed = parse(command.overrides)
    open_ended = any(item.is_sweep_override() and not item.is_discrete_sweep() for item in parsed)
    return not open_ended and "hydra/sweeper" not in {item.key_or_group for item in parsed}


@contextmanager
def _search_path(command: Command) -> Iterator[list[str]]:
    """Initialize Hydra's compose API; yields overrides that stand for `--config-dir`."""
    import hydra

    folder = command.options.config_dir
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--config-dir={folder}: no such folder")
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        given = [item for item in command.overrides if item.startswith("hydra.searchpath=")]
        path = f"file://{os.path.abspath(folder)}" if folder else ""
        yield [f"hydra.searchpath=[{quoted(path)}]"] if folder and not given else []


def _check_words(overrides: Sequence[str]) -> None:
    """Refuse words of one job that Hydra takes no offence at, or says nothing helpful about."""
    for item in parse(overrides):
        key, word = item.key_or_group, item.input_line
        if item.is_sweep_override():
            raise UserError(
                f"{word}: names several values; add -m to run a job for each, or give a list as"
                f" {key}=[ONE,OTHER]"
            )
        choices = sorted(file.stem for file in (CONF / key).glob("*.yaml"))
        value: Any = item.value()
        named = value if isinstance(value, list) else [value]
        if choices and not all(isinstance(name, str | None) for name in named):
            raise UserError(f"{word}: no such choice; choose from {', '.join(choices)}")


def _jobs(command: Command) -> list[list[str]]:
    """The overrides of every job: all combinations of swept values, as Hydra's sweeper makes them.

    Sweeps without an end to count (`interval(0,1)` of an optimizing sweeper) are left to the jobs.
    """
    if not command.sweeps:
        return [command.overrides]
    choices: dict[str, list[str]] = {}
    for item in parse(command.overrides):
        key = item.get_key_element()
        if item.is_discrete_sweep():
            choices[key] = [f"{key}={value}" for value in item.sweep_string_iterator()]
        elif not item.is_sweep_override():
            choices[key] = [str(item.input_line)]
    return [list(job) for job in itertools.product(*choices.values())]


def _complete(
    command: Command, overrides: list[str], parsed: dict[str, Override]
) -> tuple[dict[str, str], list[str]]:
    """The settings that were brought along, each with the word behind it, and all overrides."""
    if command.verb not in RUN_VERBS and command.verb not in SECTIONS_OF:
        return {}, overrides
    if "resume" in parsed and parsed["resume"].value() is not None:
        return _resumed(command, overrides, parsed)
    if {"hydra.run.dir", "sweep.name"} <= set(parsed):
        return {}, overrides  # the words of one job: its launch has written all out
    brought: dict[str, str] = {}
    if command.verb == "compare":
        brought, overrides = _compared(command, parsed, overrides)
    if "checkpoint" in parsed and parsed["checkpoint"].is_sweep_override():
        raise UserError(
            f"{parsed['checkpoint'].input_line}: each brings settings of its own, so a sweep can't"
            " go over them; give one at a time"
        )
    if "checkpoint" in parsed and parsed["checkpoint"].value() is not None:
        sections = SECTIONS_OF.get(command.verb, SECTIONS)
        items = overrides_of(_text(parsed["checkpoint"]), set(parsed), sections)
        brought = _behind(command, "checkpoint", items)
    elif "model.path" in parsed and "model" not in parsed:
        brought = _behind(command, "model.path", _another_model(parsed))
    overrides = [*brought, *overrides]
    if command.verb in RUN_VERBS:
        _check_pairs(parsed)
        overrides += _decided(command, parsed)
    return {item.partition("=")[0]: word for item, word in brought.items()}, overrides


def _decided(command: Command, parsed: dict[str, Override]) -> list[str]:
    """What a launch decides once for all of its jobs."""
    found: list[str] = []
    if "sweep.name" not in parsed:
        # two launches in one second must not share a directory
        found.append(f"sweep.name={time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    varied = sorted(key for key, item in parsed.items() if item.is_sweep_override())
    if command.sweeps and varied and "run.varied" not in parsed:
        found.append(f"run.varied=[{','.join(varied)}]")
    return found


def _behind(command: Command, key: str, overrides: Sequence[str]) -> dict[str, str]:
    """Overrides with the typed word that brings them along."""
    return dict.fromkeys(overrides, command.typed.words.get(key, f"{key}="))


def _compared(
    command: Command, parsed: dict[str, Override], overrides: list[str]
) -> tuple[dict[str, str], list[str]]:
    """What the models of a comparison bring: `before` the model, the first `after` the rest.

    Also the overrides with names of conf/model written out as what they stand for.
    """
    for key in ("before", "after"):
        if key in parsed and parsed[key].is_sweep_override():
            raise UserError(
                f"{parsed[key].input_line}: each brings settings of its own, so a sweep can't go"
                " over them; compare several at once with after=[ONE,OTHER]"
            )
    given = {key: parsed[key].value() for key in ("before", "after") if key in parsed}
    given = {key: value for key, value in given.items() if value is not None}
    if not given.get("after"):
        raise UserError("after=: name the model that is compared, such as after=RUN_DIR")
    afters = [model_path(name, CONF) for name in listed(given["after"])]
    before = model_path(str(given["before"]), CONF) if "before" in given else None
    named, sections = set(parsed), tuple(name for name in SECTIONS if name != "model")
    if "experiment" in parsed and parsed["experiment"].value() == OF_PROMPTS:
        # its prompts stand for themselves: of a run nothing but the model is wanted
        named, sections = named - {"experiment"}, ()
    if before is None:
        brought = _behind(command, "after", base_overrides(afters[0], named))
    else:
        brought = _behind(command, "before", overrides_of(before, named, ("model",), "before"))
    rest = overrides_of_run(afters[0], named, sections, "after")
    brought |= _behind(command, "after", rest)
    kept = [item for item in overrides if not item.startswith(("before=", "after="))]
    kept.append(f"after=[{','.join(quoted(name) for name in afters)}]")
    if before is not None:
        kept.append(f"before={quoted(before)}")
    return brought, kept


def _check_pairs(parsed: dict[str, Override]) -> None:
    """Refuse settings that say which pairs are made beside a file of pairs."""
    pairs = parsed.get("pairs")
    if pairs is None or (not pairs.is_sweep_override() and pairs.value() is None):
        return
    idle = ("data", "circuit.corruption", "circuit.documents")
    given = [key for key in parsed if key in idle or key.startswith("data.")]
    if given:
        raise UserError(
            f"pairs={_text(pairs)}: brings its pairs, all of them, so {given[0]} has no say; leave"
            " one of the two out"
        )


def _another_model(parsed: dict[str, Override]) -> list[str]:
    """A path alone replaces the built-in model: neither its name nor its learning rates hold."""
    brought = []
    path = parsed["model.path"]
    if "model.name" not in parsed and not path.is_sweep_override():
        brought.append(f"model.name={quoted(os.path.basename(_text(path).rstrip('/')))}")
    for name in ("learning_rate", "lora_learning_rate_scale"):
        if f"model.{name}" not in parsed:
            brought.append(f"model.{name}={getattr(ModelConfig, name)}")
    return brought


def _resumed(
    command: Command, overrides: list[str], parsed: dict[str, Override]
) -> tuple[dict[str, str], list[str]]:
    """The settings of the run that goes on, and the overrides with its folder."""
    path = _text(parsed["resume"])
    # a further process of distributed training is given these
    allowed = {"resume", "sweep.name"}
    others = [key for key in parsed if key not in allowed and not key.startswith("hydra.")]
    if others or command.flags:
        raise UserError(
            f"resume={path}: a resumed run takes its own configuration ({path}/config.yaml), so"
            f" {(others + command.flags)[0]} can't go with it; to change something, start a new run"
        )
    run = RunDirectory.open(path)
    verb = run.read_config()["verb"]
    if verb != command.verb:
        raise UserError(f"resume={path}: is a run of `sumcirc {verb}`; only training is resumed")
    stored_config(run, TrainConfig)
    added = []
    if "sweep.name" not in parsed:
        added.append(f"sweep.name={quoted(run.path.resolve().parent.name)}")
    if "hydra.run.dir" not in parsed:
        added.append(f"hydra.run.dir={quoted(str(run.path))}")
    sections = [one.name for one in fields(TrainConfig)]
    return dict.fromkeys(sections, command.typed.words["resume"]), [*overrides, *added]


def _text(override: Override) -> str:
    """The value as a string, without quotes."""
    return str(override.value())
