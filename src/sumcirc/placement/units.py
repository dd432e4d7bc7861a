"""The units of choice of a landscape: the layers of a model, or single modules of its layers.

A unit is counted as in a selector's ranking: layers from 0, and the modules of a layer one after
the other, so that the unit of module m of layer i is i times the number of modules, plus m. Its
name is the index of the layer, or `0.qkv` for a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sumcirc.errors import UserError

UnitSet = tuple[int, ...]  # units, ascending
Name = int | str


@dataclass(frozen=True)
class Units:
    """The units of which the sets of a landscape consist.

    Attributes:
        layers: number of layers of the model.
        modules: names of the modules of each layer that are units; empty if layers are.

    Raises:
        ValueError: there is only one module, so that layers are the units, or one is named twice.
    """

    layers: int
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.modules) == 1 or len(set(self.modules)) < len(self.modules):
            raise ValueError(f"modules {self.modules}: name two or more, each once")

    @property
    def word(self) -> str:
        """What a unit is: `layer` or `module`, as in `adaptation.granularity`."""
        return "module" if self.modules else "layer"

    @property
    def words(self) -> str:
        """The plural of `word`."""
        return f"{self.word}s"

    @property
    def count(self) -> int:
        """Number of units."""
        return self.layers * max(len(self.modules), 1)

    @cached_property
    def names(self) -> tuple[Name, ...]:
        """The name of each unit."""
        return tuple(map(self.name, range(self.count)))

    @cached_property
    def by_name(self) -> dict[Name, int]:
        """The unit of each name."""
        return {name: unit for unit, name in enumerate(self.names)}

    def name(self, unit: int) -> Name:
        """Return a unit's name: the index of a layer, or a module such as `0.qkv`.

        Args:
            unit: the unit, from 0.
        """
        if not self.modules:
            return unit
        layer, place = divmod(unit, len(self.modules))
        return module_name(layer, self.modules[place])

    def label(self, chosen: Sequence[int]) -> str:
        """Return the label of a set of units, such as `2,3,5` or `0.qkv`.

        Args:
            chosen: the units.
        """
        return label_of([self.name(unit) for unit in chosen])

    def sets(self, size: int) -> str:
        """Return what sets of `size` units are called: `sets of 3 layers` or `single modules`."""
        return f"sets of {size} {self.words}" if size > 1 else f"single {self.words}"

    def counted(self, size: int) -> str:
        """Return the same with what they are taken from: `sets of 3 of 6 layers`."""
        if size > 1:
            return f"sets of {size} of {self.count} {self.words}"
        return f"single {self.words}" + (f" of {self.layers} layers" if self.modules else "")


def module_name(layer: int, module: str) -> str:
    """Return the name of a module of a layer, such as `0.qkv`."""
    return f"{layer}.{module}"


def label_of(names: Sequence[Name]) -> str:
    """Return the label of units with these names, such as `2,3,5` or `0.qkv`."""
    return ",".join(map(str, names))


def set_named(shown: str, names: Sequence[Name], units: Units, size: int) -> UnitSet:
    """Return the set of the units with these names; refuse names that make up no set.

    Args:
        shown: what chose them, for the message.
        names: names of the units.
        units: the units of the landscape.
        size: number of units of each of its sets.

    Raises:
        UserError: a name is no unit of the landscape or is given twice, or there are more or fewer
            than `size`.
    """
    words = "modules" if any(isinstance(name, str) for name in names) else "layers"
    start = f"{shown}: chose {words} [{label_of(names)}]"
    if words != units.words:
        raise UserError(
            f"{start}, but the landscape has {units.sets(size)}; choose from its {units.words},"
            f" such as [{units.label(range(size))}]"
        )
    for name in names:
        if name not in units.by_name:
            raise UserError(f"{start}; {_why_not(name, units)}")
    if len(set(names)) != len(names):
        raise UserError(
            f"{start}; a {units.word} is named twice, name {size} different {units.words}"
        )
    if len(names) != size:
        raise UserError(
            f"{start}; the landscape has {units.sets(size)}, so a choice of {len(names)} has no"
            f" place in it; choose {size}"
        )
    return tuple(sorted(units.by_name[name] for name in names))


def _why_not(name: Name, units: Units) -> str:
    """Return why a name is no unit."""
    layer, dot, module = str(name).partition(".")
    if dot and module not in units.modules:
        return f"{name}: no such module is in it, only {', '.join(units.modules)}"
    return (
        f"layer {layer} is out of range, the model has {units.layers} layers, 0 to"
        f" {units.layers - 1}"
    )
