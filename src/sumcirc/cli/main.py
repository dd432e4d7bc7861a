"""Entry point of `sumcirc VERB [overrides]`; each verb is a Hydra application over conf/VERB.yaml.

Nothing heavy is imported here: `--help` prints the table below, `--cfg job` needs only Hydra. A
user's mistake ends in one line and exit code 2, a job that fails in its traceback and exit code 1.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sumcirc.cli.verbs import READERS, STARTING, VERBS, usage
from sumcirc.errors import Stopped, Unwritable, UserError
from sumcirc.runtime import quoting
from sumcirc.runtime.pipes import CODE, ending_quietly, lost_reader
from sumcirc.runtime.terminal import guard, say

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sumcirc.cli.command import Command
    from sumcirc.schema import SweepConfig
    from sumcirc.sweeps.child import Job
    from sumcirc.sweeps.launching import Sweep


def fail(message: str, code: int = 2) -> NoReturn:
    """Print a message to standard error and exit.

    Args:
        message: the message; its newlines are replaced by spaces.
        code: exit code of the process.
    """
    say(f"sumcirc: {' '.join(message.split())}", error=True)
    raise SystemExit(code)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the `sumcirc` command.

    Args:
        argv: the words after `sumcirc`; None for those of this process.
    """
    guard()
    # otherwise Hydra prints exceptions in its own format and exits
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # a log message that can't be written must not cause a traceback
    logging.raiseExceptions = False
    # PEFT imports bitsandbytes if it is installed, which then asks for a kernel that isn't used
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    with ending_quietly():
        _main(list(sys.argv[1:] if argv is None else argv))


def _main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return
    if arguments[0] == "--version":
        from sumcirc import __version__

        say(f"sumcirc {__version__}")
        return
    if arguments[0] in ("-sc", "--shell-completion"):
        from sumcirc.cli.completion import complete_line

        complete_line(arguments)
        return
    verb = arguments[0]
    verbs = VERBS | READERS
    if verb not in verbs:
        near = difflib.get_close_matches(verb, verbs, n=1)
        hint = f", did you mean `{near[0]}`?" if near else ";"
        fail(f"`{verb}` is not a verb{hint} verbs: {', '.join(verbs)}; see `sumcirc --help`")
    run_verb(verb, arguments[1:])


def run_verb(verb: str, arguments: list[str]) -> None:
    """Run a verb; on a user's mistake, print a one-line message and exit.

    Args:
        verb: a known verb.
        arguments: the words after it.
    """
    try:
        if verb == "status":
            from sumcirc.sweeps.status import main as show_status

            show_status(arguments)
        elif verb == "compare" and any(map(is_circuit_file, arguments)):
            from sumcirc.jobs._circuit_pair import main as compare_files

            compare_files(arguments)
        else:
            launch(verb, arguments)
    except (UserError, Stopped) as error:
        if isinstance(error, Stopped) and error.code == CODE:
            raise SystemExit(CODE) from None
        if os.environ.get("SUMCIRC_TRACEBACK"):
            raise
        fail(str(error), error.code if isinstance(error, Stopped) else 2)
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C", 130)


def is_circuit_file(word: str) -> bool:
    """Return whether a word after `sumcirc compare` is a file with a circuit."""
    return word.endswith(".json") and "=" not in word and not word.startswith("-")


def launch(verb: str, arguments: list[str]) -> None:
    """Check every job that a command asks for, then let Hydra run the jobs.

    Args:
        verb: a known verb.
        arguments: the words after it.

    Raises:
        UserError: the arguments contain a mistake and no job was started, or a single job found a
            mistake in them.
    """
    from sumcirc.cli import command
    from sumcirc.schema import configuration

    configuration.register()
    given = command.read(verb, arguments)
    with given.typed.naming():
        _launch(given)


def _launch(given: Command) -> None:
    from sumcirc.cli import command
    from sumcirc.cli.dry_running import check_dry_run, dry_run
    from sumcirc.cli.searching import check_search
    from sumcirc.storage.writing import check_writable
    from sumcirc.tracking.wandb import check_login

    check_dry_run(given)
    verb = given.verb
    job = importlib.import_module(f"sumcirc.jobs.{verb}")
    configs = command.compose(given) if given.starts else []
    if configs:
        check_search(given, configs[0])
        given, configs = command.ordered(given, configs)
    given.typed.folders.update(command.folders(given, configs))
    launcher = command.launcher(given) if given.starts and given.sweeps else None
    sweep = _sweep(given, configs, launcher) if launcher and given.makes_runs else None
    done = {state.name for state in sweep.states() if state.state == "done"} if sweep else set()
    runs_here = launcher in (None, *command.LOCAL_LAUNCHERS)
    # Lightning starts further processes of a job with the same command
    if configs and os.environ.get("LOCAL_RANK", "0") == "0":
        say(f"{verb}: {STARTING}")
    if verb == "train" and given.sweeps:
        job.check_together(configs)
    for config in configs:
        if given.makes_runs and config.run.name in done:
            continue
        if given.makes_runs:
            check_writable("runs_dir", config.runs_dir)
        if verb in command.LOGGING_VERBS:
            check_login(config.logger)
            command.check_curves(verb, config.logger)
        job.check(config if runs_here else command.for_any_machine(config))
    if given.dry_run and configs:
        dry_run(given, configs, sweep, done, None if runs_here else launcher)
        return
    application = Application(given)
    if sweep is None:
        _hydra(application)
        application.conclude(len(configs))
    else:
        _run_sweep(sweep, application, configs[0])


class Application:
    """The callable that Hydra calls with the configuration of each job.

    It runs the job, or starts a process for it if the job is part of a sweep of runs. It can be
    pickled, since a launcher may call it in another process or on another machine.

    Args:
        given: the command.

    Attributes:
        started: whether Hydra has called it.
        mistake: the user's mistake because of which a single job refused to run, or None.
        failed: names of the folders of failed jobs.
    """

    def __init__(self, given: Command) -> None:
        self.given = given
        self.started = False
        self.mistake: UserError | None = None
        self.failed: list[str] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        from sumcirc.schema import configuration

        self.__dict__.update(state)
        configuration.register()

    def __call__(self, config: DictConfig) -> float | None:
        """Run one job in the folder that Hydra created for it; return its objective, if any."""
        from hydra.core.hydra_config import HydraConfig

        from sumcirc.cli import command
        from sumcirc.schema.configuration import typed

        node = HydraConfig.get()
        folder = Path(node.runtime.output_dir)
        self.started = True
        if self.given.sweeps and self.given.makes_runs:
            from sumcirc.sweeps.pool import run_jobs

            run_jobs([self._job(typed(config), node, folder)])
            return self.objective(folder)
        # the words with which further processes of distributed training are started
        words = command.words_of_job(self.given, node.overrides)
        sys.argv = ["sumcirc", self.given.verb, *words]
        job = importlib.import_module(f"sumcirc.jobs.{self.given.verb}")
        try:
            job.run(typed(config), folder)
        except UserError as error:
            if not self.given.sweeps:
                self.mistake = error  # raised after Hydra returns, which would add lines of its own
                return None
            self.failed.append(folder.name)
            say(f"sumcirc: {folder.name} failed: {error}", error=True)
            raise
        except Exception as error:
            if lost_reader(error):
                raise SystemExit(CODE) from error  # for an exception Hydra would print a line
            if self.given.sweeps:
                self.failed.append(folder.name)
                say(f"sumcirc: {folder.name} failed:", error=True)
                traceback.print_exc()
            raise
        return None

    def objective(self, folder: Path) -> float | None:
        """Return the run's value of `sweep.objective`; None if the sweep has no objective.

        Args:
            folder: the run directory.
        """
        from sumcirc.sweeps.search import objective_value

        return objective_value(folder) if self.given.verb == "train" else None

    def settings(self, config: DictConfig) -> dict[str, Any]:
        """Return the settings of a job with dotted keys, without those of how and where it runs.

        Args:
            config: configuration of the job as composed by Hydra.
        """
        from sumcirc.schema.configuration import typed
        from sumcirc.sweeps.sweep_record import LAUNCH
        from sumcirc.tracking.session import plain
        from sumcirc.tracking.sweep_axes import flat_settings

        return flat_settings(plain(typed(config)), LAUNCH)

    def jobs(self) -> list[list[str]]:
        """Return the overrides of each job of a sweep over checkpoints."""
        from sumcirc.cli.command import jobs_over_checkpoints

        return jobs_over_checkpoints(self.given)

    def job(self, config: DictConfig) -> tuple[Job, list[str | None]]:
        """Return the process to start for a job of a sweep, and the devices that it may run on.

        Args:
            config: configuration of the job as composed by Hydra, including Hydra's own settings.
        """
        from sumcirc.schema.configuration import typed

        settings = typed(config)
        folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()
        return self._job(settings, config.hydra, folder), settings.sweep.places

    def _job(self, config: Any, node: Any, folder: Path) -> Job:
        from sumcirc.cli import command
        from sumcirc.schema.configuration import quoted
        from sumcirc.sweeps.child import Job

        words = command.words_of_job(self.given, node.overrides)
        where = f"hydra.run.dir={quoted(str(folder))}"
        return Job(folder, [self.given.verb, *words, where], config.sweep.retry is not None)

    def conclude(self, total: int) -> None:
        """Raise an error if a job that ran in this process failed.

        Args:
            total: number of all jobs, for the message.

        Raises:
            UserError: a single job refused to run because of a user's mistake.
            SystemExit: some jobs of several failed.
        """
        if self.mistake is not None:
            raise self.mistake
        if self.failed:
            fail(f"{len(self.failed)} of {total} jobs failed: {', '.join(self.failed)}", 1)


def _hydra(application: Application) -> None:
    """Let Hydra run the jobs, or show what was requested."""
    import hydra

    from sumcirc.cli import command

    given = application.given
    typed_argv = sys.argv
    sys.argv = [f"sumcirc {given.verb}", *given.overrides, *given.flags]
    decorate = hydra.main(version_base="1.3", config_path=str(command.CONF), config_name=given.verb)
    try:
        decorate(application)()
    except BrokenPipeError:
        raise
    except Exception as error:
        if not application.started:
            raise _before_the_job(error) from error
        if not application.failed:
            raise
    finally:
        sys.argv = typed_argv


def _sweep(given: Command, configs: Sequence[Any], launcher: str) -> Sweep:
    """Return the sweep that a multirun starts or continues.

    Raises:
        UserError: its name is in use with another configuration, or settings don't fit together.
    """
    from sumcirc.cli import command
    from sumcirc.sweeps.launching import OWN_LAUNCHER, Sweep
    from sumcirc.sweeps.sweep_record import SweepRecord
    from sumcirc.tracking.session import plain

    options = configs[0].sweep
    if launcher != OWN_LAUNCHER and (options.jobs or options.gpus):
        name = "jobs" if options.jobs else "gpus"
        raise UserError(
            f"sweep.{name}: is for jobs on this machine; hydra/launcher="
            f"{launcher} has its own settings (hydra.launcher.*); leave it out"
        )
    known = [plain(config) for config in configs] if command.is_counted(given) else []
    words = ["sumcirc", given.verb, *given.flags, *given.overrides]
    folder = Path(configs[0].runs_dir).expanduser() / options.name
    return Sweep(folder, SweepRecord.of(given.verb, known, words))


def _run_sweep(sweep: Sweep, application: Application, config: Any) -> None:
    """Run a sweep's unfinished jobs, then print its tables; exit code 1 unless all are done."""
    from sumcirc.cli.searching import searches
    from sumcirc.reporting.views.system_scores import print_scores, sweep_notices, sweep_rows
    from sumcirc.sweeps.launching import remedy

    options: SweepConfig = config.sweep
    stopped: Stopped | None = None
    with sweep.begun():
        sweep.announce(options.retry is not None)
        try:
            _hydra(application)
        except Stopped as error:
            stopped = error
        except BrokenPipeError:
            raise
        except Exception as error:
            # a launcher whose job vanished raises; the state of each job is in its directory
            mistake = isinstance(error.__cause__, UserError)
            if mistake or not any(state.started for state in sweep.states()):
                raise
            say(f"sumcirc: the launcher ended early: {error}", error=True)
    unfinished = sweep.conclude()
    for rows in sweep_rows(sweep.folder):
        print_scores(rows, str(sweep.folder))
    for line in sweep_notices(sweep.folder):
        say(line)
    say(f"run directories and figures: {sweep.folder}/*/")
    if stopped is not None:
        name = quoting.word(f"sweep.name={options.name}")
        how = f"the same command with {name} goes on where it was"
        raise Stopped(f"{stopped}; {how}", stopped.code)
    if searches(application.given):
        from sumcirc.jobs._search import show_search
        from sumcirc.sweeps.search import RECORD

        show_search(sweep.folder / RECORD)
    if unfinished:
        fail(remedy(unfinished, len(sweep.states()), options.name), 1)
    if options.report:
        from sumcirc.jobs.report import report_sweep

        report_sweep(sweep.folder, config.logger)
    else:
        say(f"for a page about all runs: {quoting.command('report', str(sweep.folder))}")


def _before_the_job(error: Exception) -> UserError:
    """Return the user's mistake behind a failure of Hydra before the job started."""
    from sumcirc.runtime.messages import one_line

    if isinstance(error, OSError) and error.filename:
        return Unwritable(error.filename, error.strerror or str(error))
    return UserError(one_line(error))
