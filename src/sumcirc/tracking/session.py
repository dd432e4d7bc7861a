"""From a configuration to a run that ends in a known state, whatever happens."""

from __future__ import annotations

import secrets
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sumcirc import __version__
from sumcirc.errors import UserError
from sumcirc.files import write_text
from sumcirc.tracking.run_directory import RunDirectory

Config = TypeVar("Config")


def plain(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain containers, ready for YAML and W&B."""
    container = OmegaConf.to_container(
        OmegaConf.structured(config), resolve=True, enum_to_str=True, throw_on_missing=True
    )
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def stored_config(run: RunDirectory, schema: type[Config]) -> Config:
    """The configuration of an existing run.

    Raises:
        UserError: it was written by another version, or does not fit the schema.
    """
    body = run.read_config()
    version = body["environment"].get("sumcirc")
    if version != __version__:
        raise UserError(
            f"{run.path}: was written by sumcirc {version}, this is {__version__};"
            f" use that version (pip install sumcirc=={version})"
        )
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), body["config"])
    except OmegaConfBaseException as error:
        raise UserError(f"{run.config_file}: {str(error).splitlines()[0]}") from None
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


@contextmanager
def running(run: RunDirectory) -> Iterator[None]:
    """Keep status.json true: running, then done, failed with a reason, or pending if stopped.

    A run that was stopped from outside (Ctrl-C, SIGTERM) is pending: it can be resumed. After
    `kill -9` it stays `running` with a process that is gone.
    """
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    run.set_status("running", wandb_id=run.status().get("wandb_id") or secrets.token_hex(4))
    try:
        yield
    except UserError as error:
        run.set_status("failed", reason=str(error))
        raise
    except (KeyboardInterrupt, SystemExit, SIGTERMException) as error:
        how = "SIGTERM" if isinstance(error, SIGTERMException) else "Ctrl-C"
        reason = f"stopped by {how}; continue with `sumcirc train resume={run.path}`"
        run.set_status("pending", reason=reason)
        raise UserError(reason) from None
    except BaseException as error:
        file = run.path / "traceback.txt"
        write_text(file, traceback.format_exc())
        run.set_status(
            "failed", reason=f"{type(error).__name__}: {error}", traceback=str(file.name)
        )
        raise
    run.set_status("done", reason=None)


class Clock:
    """Wall time by phase, in seconds."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of a block to a phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
