"""Keeps a run going when Weights & Biases fails: warns once and logs no more there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sumcirc.runtime.terminal import say

PARTS = ("config", "summary")  # of a run, with methods of their own that reach W&B's process


@dataclass
class _State:
    lost: bool = False


class Lasting:
    """Wraps a W&B run; once a call has failed, all further calls do nothing.

    W&B works in a process of its own. When that dies (killed for memory, say), every call raises
    another error of a socket or of W&B's. All that is logged also stands in the run directory.
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
                    wandb.teardown()  # or it would be tried at exit, with a traceback
                reason = " ".join(str(error).split()) or "no reason given"
                say(
                    f"logger=wandb: W&B has stopped ({type(error).__name__}: {reason}); the run"
                    " goes on without it, and its directory holds all that is logged",
                    error=True,
                )
                return None

        return call
