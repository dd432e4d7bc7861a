"""How a configuration refuses a value."""

from __future__ import annotations

from sumcirc.errors import UserError


def require(condition: bool, message: str) -> None:
    """Raise UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)
