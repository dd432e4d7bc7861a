"""`sumcirc VERB [overrides]`: each verb is a Hydra application over conf/VERB.yaml.

Nothing heavy is imported here: `--help` answers from the table below, `--cfg job` needs Hydra only.
A user's mistake ends in one line and exit code 2; a job that fails, in its traceback and code 1.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import secrets
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from omegaconf import DictConfig

VERBS = {
    "train": "fine-tune a model to summarize, fully or with LoRA, and score it",
    "evaluate": "score the summaries of any model beside lead, random and oracle",
    "pretrain": "make the built-in model and its tokenizer from wire text",
}

RUN_VERBS = {"train", "evaluate"}  # those that make a run directory
MULTIRUN = {"-m", "--multirun"}
CONF = Path(__file__).resolve().parent / "conf"

USAGE = """\
usage: sumcirc VERB [overrides]

{verbs}

  sumcirc train model=gpt2 data=cnn_dailymail adaptation=lora adaptation.layers=[2,3,5]
  sumcirc train -m adaptation=lora 'adaptation.layers=[2,3,5],[9,10,11],all' seed=1,2,3
  sumcirc train resume=RUN_DIR
  sumcirc evaluate checkpoint=RUN_DIR

With no overrides a verb runs on the built-in model and data, with no network and no account.
`sumcirc VERB --help` lists what can be set, `sumcirc VERB --cfg job` shows the composed values,
`-m` sweeps over comma-separated ones. SUMCIRC_TRACEBACK=1 shows the traceback of every error.
"""


def usage() -> str:
    """The text of `sumcirc --help`."""
    width = max(map(len, VERBS))
    return USAGE.format(verbs="\n".join(f"  {verb:<{width}}  {VERBS[verb]}" for verb in VERBS))


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line and leave with `code`."""
    print(f"sumcirc: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `sumcirc` command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return
    if arguments[0] == "--version":
        from sumcirc import __version__

        print(f"sumcirc {__version__}")
        return
    verb, overrides = arguments[0], arguments[1:]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        fail(f"`{verb}` is no verb{hint} Verbs: {', '.join(VERBS)}. See `sumcirc --help`.")
    run_verb(verb, overrides)


def run_verb(verb: str, overrides: list[str]) -> None:
    """Compose conf/VERB.yaml with `overrides` and run the job, translating errors."""
    from sumcirc.errors import UserError

    show_traceback = bool(os.environ.get("SUMCIRC_TRACEBACK"))
    # Hydra would print its own summary of an exception and exit; set, it lets them through to us
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _run_hydra(verb, overrides)
    except UserError as error:
        if show_traceback:
            raise
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C", 130)
    except Exception as error:
        if show_traceback or not _is_configuration_error(error):
            raise
        fail(_configuration_message(error))


def _run_hydra(verb: str, overrides: list[str]) -> None:
    import hydra
    from omegaconf import DictConfig

    from sumcirc import schema

    schema.register()
    job = importlib.import_module(f"sumcirc.jobs.{verb}")
    overrides = complete(verb, [_quote(item) for item in overrides])
    if not any(item.startswith("-") and item not in MULTIRUN for item in overrides):
        for config in compose_all(verb, overrides):
            job.check(config)

    def application(config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        job.run(typed(config), Path(HydraConfig.get().runtime.output_dir))

    sys.argv = [f"sumcirc {verb}", *overrides]
    decorate = hydra.main(version_base="1.3", config_path=str(CONF), config_name=verb)
    decorate(application)()
    if MULTIRUN & set(overrides):
        _print_sweep(compose_all(verb, overrides)[0])


def compose_all(verb: str, overrides: list[str]) -> list[Any]:
    """The configuration of every job that `overrides` ask for, before any of them starts.

    Raises:
        UserError: a contradiction, or a key that no schema has.
    """
    import hydra
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    plain = [item for item in overrides if item not in MULTIRUN]
    parsed = OverridesParser.create().parse_overrides(plain)
    jobs = [plain]
    if len(plain) < len(overrides):
        jobs = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return [
            typed(hydra.compose(config_name=verb, overrides=_without_hydra(job))) for job in jobs
        ]


def typed(config: DictConfig) -> Any:
    """The configuration as dataclasses.

    Raises:
        UserError: a value is missing, or a key was forced in with `+`.
    """
    from omegaconf import OmegaConf

    from sumcirc.errors import UserError

    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} is not set: give {missing[0]}=VALUE")
    root = OmegaConf.get_type(config)
    known = {field.name for field in dataclasses.fields(root)}
    for key in config:
        if key not in known:
            raise UserError(f"{key}: no such setting; see `sumcirc VERB --cfg job`")
    return OmegaConf.to_object(config)


def complete(verb: str, overrides: list[str]) -> list[str]:
    """Add what a launch decides once: its directory, which keys a multirun varies, what a
    checkpoint brings along.

    They travel as overrides, so that a launcher on another machine composes the same run.

    Raises:
        UserError: `resume` beside other overrides, or of something that is no run.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if verb not in RUN_VERBS:
        return overrides
    plain = [item for item in overrides if not item.startswith("-")]
    parsed = {
        item.key_or_group: item for item in OverridesParser.create().parse_overrides(plain)
    }
    if "resume" in parsed and parsed["resume"].value() is not None:
        return _resumed(overrides, str(parsed["resume"].value()))
    brought = []
    checkpoint = parsed.get("checkpoint")
    if checkpoint is not None and not checkpoint.is_sweep_override():
        from sumcirc.tracking.checkpoint_source import overrides_of

        brought = overrides_of(str(checkpoint.value()), set(parsed))
    added = []
    if "sweep.name" not in parsed:
        # two launches in one second must not share a directory
        added.append(f"sweep.name={time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    varied = sorted(key for key, item in parsed.items() if item.is_sweep_override())
    if MULTIRUN & set(overrides) and varied:
        added.append(f"run.varied=[{','.join(varied)}]")
    return [*brought, *overrides, *added]


def _resumed(overrides: list[str], path: str) -> list[str]:
    from sumcirc.errors import UserError
    from sumcirc.tracking.checkpoint_source import quoted
    from sumcirc.tracking.run_directory import RunDirectory

    if len(overrides) > 1:
        raise UserError(
            f"resume={path}: a resumed run takes its own configuration, so no other override"
            " goes with it (to change something, start a new run)"
        )
    folder = RunDirectory.open(path).path
    return [
        *overrides,
        f"sweep.name={quoted(folder.resolve().parent.name)}",
        f"hydra.run.dir={quoted(str(folder))}",
    ]


def _without_hydra(overrides: Sequence[str]) -> list[str]:
    return [item for item in overrides if not item.startswith(("hydra.", "hydra/"))]


def _quote(override: str) -> str:
    """Quote a value that names an existing path: run names hold commas, which Hydra would split."""
    from sumcirc.tracking.checkpoint_source import quoted

    key, _, value = override.partition("=")
    if override.startswith("-") or not value or value[0] in "'\"" or not Path(value).exists():
        return override
    return f"{key}={quoted(value)}"


def _print_sweep(config: Any) -> None:
    """The table of a finished multirun."""
    from rich.console import Console

    from sumcirc.results import sweep_table

    folder = Path(config.runs_dir) / config.sweep.name
    table = sweep_table(folder)
    if table is not None:
        Console().print(table)
    print(f"run directories and figures: {folder}/*/")


def _is_configuration_error(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # Hydra makes the output folder itself: an OSError on a path is the user's, not ours
    from_hydra = "hydra" in _raised_in(error)
    return isinstance(error, (HydraException, OmegaConfBaseException)) or (
        isinstance(error, OSError) and from_hydra
    )


def _raised_in(error: Exception) -> str:
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = [name for name in files if "/hydra/" in name or "/sumcirc/" in name]
    return own[-1] if own else ""


def _configuration_message(error: BaseException) -> str:
    """One line from a Hydra or OmegaConf error: its own words, then those of its causes."""
    if isinstance(error, OSError):
        return (
            f"can't write {error.filename} ({error.strerror}): choose another folder with"
            " runs_dir=FOLDER"
        )
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines += [line.strip(" .") for line in str(cause).splitlines() if _is_news(line)]
        cause = cause.__cause__
    return "; ".join(dict.fromkeys(line for line in lines if line))


def _is_news(line: str) -> bool:
    """Leave out where Hydra looked and OmegaConf's internal names."""
    return not line.strip().startswith(
        ("full_key:", "object_type=", "reference_type=", "Config search path", "provider=", "To ")
    )
