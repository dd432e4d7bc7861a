"""Keeps a run going when Weights & Biases fails: warns once and stops logging there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sumcirc.runtime.terminal import say

PARTS = ("config", "summary")  # parts of a run whose own methods communicate with W&B's process


@dataclass
class _State:
    lost: bool = False


class Lasting:
    """A wrapper of a W&B run that warns once when a call fails and ignores all further calls.

    W&B runs in a separate process. If that process dies (when it is killed for memory, for
    example), calls raise various errors. No value is lost, since the run directory also contains
    everything that is logged.
    """

    def __init__(self, run: Any, state: _State | None = None) -> None:
        self._run = run
        self._state = _State() if state is None else state

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._run, name)
        if name in PARTS:
            return Lasting(found, self._state)
        return self._lasting(found) if callable(found) else found

    def _lasting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            import wandb

            if self._state.lost:
                return None
            try:
                return method(*arguments, **named)
            except Exception as error:
                self._state.lost = True
                with suppress(Exception):
                    wandb.teardown()  # otherwise wandb tries it at exit, which ends in a traceback
                reason = " ".join(str(error).split()) or "no reason given"
                say(
                    f"logger=wandb: W&B has stopped ({type(error).__name__}: {reason}); the run"
                    " continues without it, and its directory contains all logged values",
                    error=True,
                )
                return None

        return call
