"""`sumcirc VERB [overrides]`: each verb is a Hydra application over conf/VERB.yaml.

Nothing heavy is imported here: `--help` answers from the table below, `--cfg job` needs Hydra only.
A user's mistake ends in one line and exit code 2; a job that fails, in its traceback and code 1.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from sumcirc.errors import Stopped, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

VERBS = {
    "train": "fine-tune a model to summarize, fully or with LoRA, and score it",
    "evaluate": "score the summaries of any model beside lead, random and oracle",
    "circuit": "find the edges that carry the summary in any model, and judge them",
    "select": "rank layers or modules for LoRA, and write a LoraConfig of a given size",
    "pretrain": "make the built-in model and its tokenizer from wire text",
}

USAGE = """\
usage: sumcirc VERB [overrides]

{verbs}

  sumcirc train model=gpt2 data=cnn_dailymail adaptation=lora adaptation.layers=[2,3,5]
  sumcirc train -m adaptation=lora 'adaptation.layers=[2,3,5],[9,10,11],all' seed=1,2,3
  sumcirc train resume=RUN_DIR
  sumcirc evaluate checkpoint=RUN_DIR
  sumcirc circuit checkpoint=RUN_DIR
  sumcirc select selector=circuit adaptation.budget=294912

With no overrides a verb runs on the built-in model and data, with no network and no account.
`sumcirc VERB --help` lists what can be set, `sumcirc VERB --cfg job` shows the composed values,
`-m` sweeps over comma-separated ones. `eval "$(sumcirc --shell-completion install=bash)"` turns on
tab completion. SUMCIRC_TRACEBACK=1 shows the traceback of every error.
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
    if arguments[0] in ("-sc", "--shell-completion"):
        complete_line(arguments)
        return
    verb = arguments[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f", did you mean `{near[0]}`?" if near else ";"
        fail(f"`{verb}` is no verb{hint} verbs: {', '.join(VERBS)}; see `sumcirc --help`")
    run_verb(verb, arguments[1:])


def run_verb(verb: str, arguments: list[str]) -> None:
    """Run a verb with Hydra's options and overrides, translating errors."""
    try:
        launch(verb, arguments)
    except (UserError, Stopped) as error:
        if os.environ.get("SUMCIRC_TRACEBACK"):
            raise
        fail(str(error), error.code if isinstance(error, Stopped) else 2)
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C", 130)


@dataclass
class Outcome:
    """What became of the jobs of a launch."""

    started: bool = False
    mistake: UserError | None = None
    failed: list[str] = field(default_factory=list)


def launch(verb: str, arguments: list[str]) -> None:
    """Check every job that the arguments ask for, then let Hydra run them.

    Raises:
        UserError: a mistake in what was given; nothing was started, or the one job refused it.
    """
    import hydra

    from sumcirc import command, configuration
    from sumcirc.tracking.wandb import check_login

    configuration.register()
    given = command.read(verb, arguments)
    job = importlib.import_module(f"sumcirc.jobs.{verb}")
    configs = command.compose(given) if given.starts else []
    for config in configs:
        if verb in command.RUN_VERBS:
            check_login(config.logger)
        job.check(config)

    typed_argv = sys.argv
    outcome = Outcome()

    def application(config: DictConfig) -> None:
        # Lightning starts the further processes of distributed training with these words
        sys.argv = [typed_argv[0], verb, *command.words_of_job(given)]
        _run(job, config, outcome, given.sweeps)

    sys.argv = [f"sumcirc {verb}", *given.overrides, *given.flags]
    # Hydra would print an exception its own way and exit; set, it lets them through
    os.environ["HYDRA_FULL_ERROR"] = "1"
    decorate = hydra.main(version_base="1.3", config_path=str(command.CONF), config_name=verb)
    try:
        decorate(application)()
    except Exception as error:
        if not outcome.started:
            raise UserError(_before_the_job(error)) from error
        if not outcome.failed:
            raise
    finally:
        sys.argv = typed_argv
    if outcome.mistake is not None:
        raise outcome.mistake
    if given.starts and given.sweeps and verb in command.RUN_VERBS:
        _print_sweep(Path(configs[0].runs_dir) / configs[0].sweep.name)
    if outcome.failed:
        fail(f"{len(outcome.failed)} of {len(configs)} jobs failed: {', '.join(outcome.failed)}", 1)


def _run(job: ModuleType, config: DictConfig, outcome: Outcome, sweeps: bool) -> None:
    """Run one job in the folder that Hydra made for it."""
    from hydra.core.hydra_config import HydraConfig

    from sumcirc.configuration import typed

    outcome.started = True
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        job.run(typed(config), folder)
    except UserError as error:
        if not sweeps:
            outcome.mistake = error  # raised once Hydra is through: it adds lines of its own
            return
        outcome.failed.append(folder.name)
        print(f"sumcirc: {folder.name} failed: {error}", file=sys.stderr)
        raise
    except Exception:
        if sweeps:
            outcome.failed.append(folder.name)
            print(f"sumcirc: {folder.name} failed:", file=sys.stderr)
            traceback.print_exc()
        raise


def _before_the_job(error: Exception) -> str:
    from sumcirc.configuration import one_line

    if isinstance(error, OSError) and error.filename:
        return (
            f"can't write {error.filename} ({error.strerror}): choose another folder with"
            " runs_dir=FOLDER"
        )
    return one_line(error)


def _print_sweep(folder: Path) -> None:
    """The tables of a finished multirun."""
    from sumcirc.results import sweep_rows
    from sumcirc.summaries.table import print_table

    for rows in sweep_rows(folder):
        print_table(rows, title=str(folder))
    print(f"run directories and figures: {folder}/*/")


def complete_line(arguments: list[str]) -> None:
    """Answer the shell's `sumcirc --shell-completion query=bash` and install=bash.

    Hydra's completion knows commands without verbs: the verb is completed here, then left out of
    the line that Hydra sees.
    """
    import hydra

    from sumcirc import command, configuration

    words = os.environ.get("COMP_LINE", "").split(maxsplit=2)
    asks = any(word.startswith("query=") for word in arguments)
    verb = words[1] if len(words) > 1 else ""
    if asks and verb not in VERBS:
        print(" ".join(name for name in VERBS if name.startswith(verb)))
        return
    if asks:
        os.environ["COMP_LINE"] = f"sumcirc {words[2] if len(words) > 2 else ''}"
    configuration.register()
    typed_argv, sys.argv = sys.argv, ["sumcirc", *arguments]
    name = verb if asks else next(iter(VERBS))
    try:
        hydra.main(version_base="1.3", config_path=str(command.CONF), config_name=name)(print)()
    finally:
        sys.argv = typed_argv
