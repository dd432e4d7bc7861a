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


def function_in_file(setting: str, path: str, name: str | None = None) -> Callable[..., Any]:
    """Run a Python file that the user named on the command line, and return a function of it.

    Only the command line may name a file: a configuration file could come from somebody else.

    Args:
        setting: name of the setting, for messages.
        path: the file.
        name: name of the function; None if the file defines only one without `_` before its name.

    Raises:
        UserError: there is no such file, it can't be run, or it has no such function.
    """
    import importlib.util

    if not os.path.isfile(path):
        raise UserError(f"{setting}={path}: no such file")
    spec = importlib.util.spec_from_file_location("sumcirc_user_file", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{setting}={path}: is no Python file; give FILE.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # any kind of error, since this runs the user's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{setting}={path}: can't be run ({reason})") from error
    found = {
        key: value
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }
    if name is not None:
        if name not in found:
            known = ", ".join(found) or "none"
            raise UserError(f"{setting}={path}:{name}: defines no such function; it has {known}")
        return found[name]
    public = [key for key in found if not key.startswith("_")]
    if len(public) != 1:
        known = ", ".join(public) or "none"
        raise UserError(
            f"{setting}={path}: say which function scores the layers with {path}:NAME; it has"
            f" {known}"
        )
    return found[public[0]]


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
