"""`sumcirc VERB [overrides]`: each verb is a Hydra application over conf/VERB.yaml.

Nothing heavy is imported here: `--help` answers from the table below, `--cfg job` needs Hydra only.
A user's mistake ends in one line and exit code 2; a job that fails, in its traceback and code 1.
"""

from __future__ import annotations

import difflib
import importlib
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

VERBS = {
    "train": "fine-tune a model to summarize, fully or with LoRA, and score it",
    "evaluate": "score the summaries of any model beside lead, random and oracle",
    "pretrain": "make the built-in model and its tokenizer from wire text",
}

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
    from omegaconf import DictConfig, OmegaConf

    from sumcirc import schema
    from sumcirc.errors import UserError

    schema.register()
    job = importlib.import_module(f"sumcirc.jobs.{verb}")
    overrides = _name_sweep(overrides, getattr(job, "PREPARE", None))

    def application(config: DictConfig) -> Any:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{missing[0]} is not set: give {missing[0]}=VALUE")
        typed = OmegaConf.to_object(config)
        return job.run(typed)

    sys.argv = [f"sumcirc {verb}", *overrides]
    folder = Path(__file__).resolve().parent / "conf"
    decorate = hydra.main(version_base="1.3", config_path=str(folder), config_name=verb)
    decorate(application)()


def _name_sweep(overrides: list[str], prepare: Any) -> list[str]:
    """Give the launch a directory of its own and say which keys a multirun varies.

    The values travel as overrides, so that a launcher on another machine composes the same run.
    """
    added = []
    plain = [item for item in overrides if not item.startswith("-")]
    keys = {item.split("=", 1)[0].lstrip("+~") for item in plain if "=" in item}
    if prepare is not None:
        overrides = prepare(overrides)
        if "sweep.name" not in keys:
            # two launches in one second must not share a directory
            stamp = time.strftime("%Y%m%d-%H%M%S")
            added.append(f"sweep.name={stamp}-{secrets.token_hex(2)}")
    if {"-m", "--multirun"} & set(overrides):
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parsed = OverridesParser.create().parse_overrides(plain)
        varied = sorted(item.key_or_group for item in parsed if item.is_sweep_override())
        added.append(f"run.varied=[{','.join(varied)}]")
    return [*overrides, *added]


def _is_configuration_error(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return isinstance(error, (HydraException, OmegaConfBaseException, FileExistsError)) or (
        isinstance(error, OSError) and "runs" in str(error.filename or "")
    )


def _configuration_message(error: BaseException) -> str:
    """One line from a Hydra or OmegaConf error: its own first words and the innermost cause's."""
    from omegaconf.errors import OmegaConfBaseException

    lines = [str(error).splitlines()[0]] if str(error) else [type(error).__name__]
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException):
            lines.append(str(cause).splitlines()[0])
        cause = cause.__cause__
    unique = list(dict.fromkeys(line.rstrip(". ") for line in lines))
    return "; ".join(unique)
