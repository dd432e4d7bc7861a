"""What `sumcirc placement SWEEP score=...` judges: layers, a module, a selector, or a user's file.

A selector runs with the settings of the landscape's runs: their model, data and encoding. It
chooses layers, or a module in a landscape of single modules. A file is one that the user names on
the command line, so it is run; it defines one function that takes a `SelectionContext` and returns
`Scores`, as for selector=own (docs/howto/selector.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.errors import UserError
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import Choice
from sumcirc.placement.units import Name, UnitSet, label_of, module_name, set_named
from sumcirc.schema import MODULES, Granularity, PlacementConfig, SelectConfig, SelectorName

if TYPE_CHECKING:
    from sumcirc.selection.ranking import Ranked, Ranking

# sections of a run's settings that a selector needs
SECTIONS = (
    "model",
    "data",
    "encoding",
    "generation",
    "evaluation",
    "trainer",
    "adaptation",
    "seed",
)
FILE = ".py"
NO_CHOICE = ("all", "fixed")  # selectors that take the layers from elsewhere
MODULE = re.compile(r"\d+\.\S+")  # such as 0.qkv
SUCH_AS = "layers such as score=[2,3,5], a module such as score=[0.qkv]"


def check_alone(config: PlacementConfig) -> None:
    """Check what is to be judged, as far as that is possible without a landscape.

    Args:
        config: configuration of the job.

    Raises:
        UserError: these are no layers or modules, the selector is unknown, or the file has no
            function that could be a selector.
    """
    score = config.score
    if score is None:
        return
    if isinstance(score, (list, tuple)):
        _as_written(score)
        return
    if not isinstance(score, str) or not score:
        raise UserError(f"score={score}: give {SUCH_AS}, a selector, or a file my_selector.py")
    if _is_file(score):
        _function(score)
        return
    if score in NO_CHOICE:
        raise UserError(f"score={score}: chooses no layers by itself; give {SUCH_AS}")
    known = [one.value for one in SelectorName if one.value not in (*NO_CHOICE, "own")]
    if score not in known:
        raise UserError(
            f"score={score}: is no selector; choose from {', '.join(known)}, or give {SUCH_AS}, or"
            " a file my_selector.py"
        )


def check(config: PlacementConfig, landscape: Landscape) -> None:
    """Check that the landscape can judge it; `check_alone` comes first.

    Args:
        config: configuration of the job.
        landscape: the landscape by which it is judged.

    Raises:
        UserError: the list is no set of the landscape, or the runs' settings don't suit a selector.
    """
    score = config.score
    if isinstance(score, (list, tuple)):
        _listed(score, landscape)
    elif not _is_file(score):
        _select_config(config, landscape, SelectorName(score))


def choice_of(config: PlacementConfig, landscape: Landscape) -> Choice:
    """Return the layers that are to be judged, computed by the selector if one is named.

    Args:
        config: configuration of the job.
        landscape: the landscape by which they are judged.

    Raises:
        UserError: the selector fails, or returns something that can't be used.
    """
    score = config.score
    if isinstance(score, (list, tuple)):
        return Choice(f"[{label_of(score)}]", (_listed(score, landscape),))
    name = SelectorName.own if _is_file(score) else SelectorName(score)
    options = _select_config(config, landscape, name)
    ranking = _ranking(options, score if name is SelectorName.own else None)
    by_name = {_name(one): one.score for one in ranking.ranking}
    shown = Path(score).stem if _is_file(score) else score
    units, chosen = landscape.units, [[_name(one) for one in ranking.chosen]]
    if landscape.modules and landscape.size == 1:
        # a selector that scores layers doesn't tell their modules apart: each is a choice
        best = max(by_name.values())
        chosen = [[name] for name in units.names if by_name[name] == best]
    return Choice(
        shown,
        tuple(set_named(shown, names, units, landscape.size) for names in chosen),
        tuple(by_name[name] for name in units.names),
    )


def _name(ranked: Ranked) -> Name:
    """Return the name of a unit in a ranking."""
    return ranked.layer if ranked.module is None else module_name(ranked.layer, ranked.module)


def _listed(score: Sequence[Name], landscape: Landscape) -> UnitSet:
    return set_named(_as_written(score), score, landscape.units, landscape.size)


def _as_written(score: Sequence[Any]) -> str:
    """Return the list as a user writes it; refuse what can be neither layers nor modules."""
    shown = f"score=[{label_of(score)}]"
    layers = all(type(one) is int for one in score)
    if not layers and not all(isinstance(one, str) and MODULE.fullmatch(one) for one in score):
        raise UserError(
            f"{shown}: layers are whole numbers from 0, such as score=[2,3,5], and modules are"
            " written with their layer, such as score=[0.qkv]"
        )
    return shown


def _is_file(score: str) -> bool:
    return score.partition(":")[0].endswith(FILE)


def _function(score: str) -> Callable[..., Any]:
    from sumcirc.schema.instantiation import function_in_file

    path, _, name = score.partition(":")
    return function_in_file("score", path, name or None)


def _select_config(
    config: PlacementConfig, landscape: Landscape, name: SelectorName
) -> SelectConfig:
    """Return the configuration with which a selector runs, from the settings of the runs.

    Raises:
        UserError: the landscape has no such settings.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from sumcirc.schema.configuration import literal

    nested: dict[str, Any] = {}
    for key, value in landscape.settings.items():
        *parents, last = key.split(".")
        if (parents or [last])[0] in SECTIONS:
            node = nested
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
    if not nested.keys() >= {"model", "data"}:
        raise UserError(
            f"score={config.score}: {landscape.name} doesn't say with which model and data it was"
            " made, so a selector can't run; give what it chooses, as"
            f" score=[{landscape.units.label(range(landscape.size))}]"
        )
    strange = [name for name in landscape.modules if name not in MODULES]
    if strange:
        raise UserError(
            f"score={config.score}: selectors score {', '.join(MODULES)}, and {landscape.name} has"
            f" {strange[0]}; give what it chooses, as score=[{landscape.units.label([0])}]"
        )
    nested.setdefault("adaptation", {})
    nested["adaptation"] |= {"layers": "auto", "granularity": landscape.units.word}
    if landscape.modules:
        nested["adaptation"]["modules"] = list(landscape.modules)
    nested["selector"] = {"name": name.value, "count": landscape.size}
    nested |= {"cache_dir": config.cache_dir, "logger": {}, "sweep": {"name": "placement"}}
    nested["run"] = {"name": "placement"}
    if config.threads is not None:
        nested.setdefault("trainer", {})["threads"] = config.threads
    nested["selector"] |= {} if config.documents is None else {"documents": config.documents}
    known = {field.name for field in fields(SelectConfig)}
    try:
        given = literal({key: value for key, value in nested.items() if key in known})
        found = OmegaConf.merge(OmegaConf.structured(SelectConfig), given)
        return OmegaConf.to_object(found)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{landscape.name}: its settings can't be used ({reason})") from None


def _ranking(config: SelectConfig, file: str | None) -> Ranking:
    """Run a selector, or the function in a file, and return how it ranks layers or modules."""
    from sumcirc.data.datamodule import SummarizationData
    from sumcirc.data.documents import check_files
    from sumcirc.data.encoding import Encoder
    from sumcirc.models.architectures import context_length
    from sumcirc.models.loading import (
        check_model,
        load_model,
        load_tokenizer,
        read_model_config,
    )
    from sumcirc.runtime.notices import print_lines
    from sumcirc.selection.choosing import check_selection, select
    from sumcirc.selection.context import SelectionContext
    from sumcirc.selection.ranking import rank
    from sumcirc.training.machine import device, set_threads

    check_files(config.data, ["train"])
    check_model(config.model)
    if file is None:
        check_selection(config, read_model_config(config.model))
    set_threads(config.trainer)
    model: Any = load_model(config.model)
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model.config))
    data = SummarizationData(
        config.data, config.trainer, encoder, Path(config.cache_dir), config.seed
    )
    data.read(["train"])
    model.to(device(config.trainer))
    context = SelectionContext(config, model, encoder, data)
    print_lines(data.notices.as_json())
    if file is None:
        return select(context)
    scores = _scores(context, file)
    options = config.adaptation, config.selector
    return rank(
        scores,
        Path(file.partition(":")[0]).stem,
        options[0].granularity,
        options[0].modules,
        options[1].count or 1,
        options[1].resamples,
    )


def _scores(context: Any, file: str) -> Any:
    """Return the scores that the function in a user's file computes.

    Raises:
        UserError: it raises an error, or returns something that can't be used.
    """
    from sumcirc.selection.user_function import why_not

    function = _function(file)
    shown = f"score={file}: {function.__name__}"
    try:
        with context.preserving_training_state():
            found = function(context)
    except UserError:
        raise
    except Exception as error:
        line = _line_in(error, file.partition(":")[0])
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{shown} raised {reason}{line}; SUMCIRC_TRACEBACK=1 shows where"
        ) from error
    wrong = why_not(found, context.layers, Granularity.layer)
    if not wrong and context.granularity is Granularity.module and not found.tells_modules:
        wrong = (
            "scores whole layers, and the landscape has single modules; return"
            f" [{context.layers} layers, {len(MODULES)} modules, samples]"
        )
    if wrong:
        raise UserError(f"{shown} {wrong}")
    return found


def _line_in(error: Exception, file: str) -> str:
    """Return the last line of a user's file in an error's traceback, in words."""
    import traceback

    name = Path(file).resolve()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == name
    ]
    return f" (line {lines[-1]} of {Path(file).name})" if lines else ""
