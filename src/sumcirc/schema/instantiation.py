"""Converts names in a configuration to code: a `_target_` or a function.

A configuration may come from a run directory sent by somebody else, so only names in known
namespaces are called. SUMCIRC_NAMESPACES=my_package,other adds the user's own: it is an environment
variable since a file must not be able to authorize itself. No other module turns text into code.
"""

from __future__ import annotations

import inspect
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sumcirc.errors import UserError

CALLBACKS = ("sumcirc.callbacks", "sumcirc.training.progress_bars", "pytorch_lightning.callbacks")
OPTIMIZERS = ("torch.optim", "transformers.optimization", "schedulefree")
SCHEDULERS = ("torch.optim.lr_scheduler",)
LOGGERS = ("pytorch_lightning.loggers",)


def build(setting: str, spec: Mapping[str, Any], namespaces: Iterable[str] = CALLBACKS) -> Any:
    """Return an object of the class that a mapping names.

    Args:
        setting: name of the setting, for messages.
        spec: the class as `_target_`, and the keyword arguments of its constructor.
        namespaces: packages and modules whose classes may be made.

    Raises:
        UserError: the target is missing, outside the known namespaces, or can't be instantiated.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not isinstance(spec, Mapping) or "_target_" not in spec:
        raise UserError(f"{setting}: needs `_target_`, the class to make")
    for target in _targets(spec):
        _admitted(f"{setting}._target_", target, namespaces, inspect.isclass, "class")
    if _holds_interpolation(spec):
        # resolved by `instantiate`, it could become a `_target_` that was not checked
        raise UserError(f"{setting}: holds an interpolation ($" + "{...}); give its value")
    try:
        return instantiate(dict(spec), _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{setting}: {' '.join(str(error).split())}") from None


def subclass(setting: str, path: str, base: type, namespaces: Iterable[str]) -> type[Any]:
    """Return the class of a name.

    Args:
        setting: name of the setting, for messages.
        path: MODULE.CLASS.
        base: the class of which it must be a subclass.
        namespaces: packages and modules whose classes may be used.

    Raises:
        UserError: the name is outside the known namespaces, or it is no such class.
    """

    def fits(found: Any) -> bool:
        return inspect.isclass(found) and issubclass(found, base)

    return _admitted(setting, path, namespaces, fits, f"subclass of {base.__name__}")


def function(setting: str, path: str) -> Callable[..., Any]:
    """Return a function from a module that the user has authorized.

    Args:
        setting: name of the setting, for messages.
        path: MODULE.FUNCTION.

    Raises:
        UserError: the module is not authorized (SUMCIRC_NAMESPACES), or it has no such function.
    """
    return _admitted(setting, path, (), inspect.isfunction, "function")


def _targets(spec: Any) -> list[str]:
    if isinstance(spec, Mapping):
        own = [str(spec["_target_"])] if "_target_" in spec else []
        return own + [name for value in spec.values() for name in _targets(value)]
    if isinstance(spec, list):
        return [name for value in spec for name in _targets(value)]
    return []


def _holds_interpolation(spec: Any) -> bool:
    if isinstance(spec, Mapping):
        return any(_holds_interpolation(part) for part in (*spec, *spec.values()))
    if isinstance(spec, list):
        return any(map(_holds_interpolation, spec))
    return isinstance(spec, str) and "${" in spec


def _admitted(
    setting: str, path: str, namespaces: Iterable[str], fits: Callable[[Any], bool], kind: str
) -> Any:
    own = [name for name in os.environ.get("SUMCIRC_NAMESPACES", "").split(",") if name]
    known = (*namespaces, *own)
    shown = ", ".join(known) or "(none)"
    if not _is_within(path, known):
        raise UserError(
            f"{setting}={path}: is outside the known namespaces {shown};"
            " name your own package in the environment variable SUMCIRC_NAMESPACES"
        )
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # any kind of error, since importing runs the user's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{setting}={path}: can't be found ({reason})") from None
    # `known.module.os.system` also starts with a known name: the object must be defined there
    if not (fits(found) and _is_within(f"{found.__module__}.", known)):
        raise UserError(f"{setting}={path}: is not a {kind} defined in {shown}")
    return found


def _is_within(name: str, namespaces: Iterable[str]) -> bool:
    return any(name.startswith(f"{namespace}.") for namespace in namespaces)
