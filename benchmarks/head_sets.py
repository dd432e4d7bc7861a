"""How many heads carry the difference between two models, patched together, beside random heads.

    sumcirc compare before=MODEL after=RUN_DIR prompts=FILE compare.parts=[output,mlp] ...
    python benchmarks/head_sets.py COMPARE_RUN_DIR --results FOLDER

`sumcirc compare` measures what each component does alone. This script takes those with the 1, 2, 3,
... largest effects on every other prompt, patches them together and reads the share of the gap on
the other prompts: for heads, MLPs, and both. Two controls have as many components: random ones with
the same number in each layer (for heads), and random ones from any layer. Intervals resample
prompts, or with `--groups REGEX` groups of prompts, such as all prompts of a word. The record holds
numbers and names of components only; a direction that is in it already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
import yaml
from numpy.typing import NDArray

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.items.prompts import prompt_items, read_prompts
from sumcirc.compare.patching.components import MLP, OUTPUT, Component, components
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.patching_scores import PatchingSetup, halves
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import LAST
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import context_length, shape
from sumcirc.models.loading import read_model_config
from sumcirc.models.model_pairs import Models
from sumcirc.models.model_reference import ModelReference, reference
from sumcirc.models.restoring import load_tokenizer_of
from sumcirc.schema import EncodingConfig
from sumcirc.statistics.noise import no_gap, shares_of_gap
from sumcirc.storage.writing import write_json

Values = NDArray[np.float64]
Places = NDArray[np.int64]

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 270)
FAMILIES = {"heads": (OUTPUT,), "mlps": (MLP,), "both": (OUTPUT, MLP)}
LARGEST, BY_LAYER, ANYWHERE = "largest", "random_by_layer", "random_anywhere"
SHARES = (0.5, 0.8)  # of the gap: how many components are needed for it
RESAMPLES = 1000
NAMED = 32  # how many of the largest components the record names
BATCH, MEMORY = 16, int(2e9)


@dataclass(frozen=True)
class Judged:
    """Prompts by which sets are judged, with the metric of both models.

    Attributes:
        groups: [prompts] number of the group that each is resampled with.
        receiver, donor: [prompts] metric of the models.
    """

    groups: Places
    receiver: Values
    donor: Values

    def by_group(self, values: Values) -> Values:
        """Return means over the prompts of each group, [..., groups]."""
        member = np.eye(self.groups.max() + 1)[self.groups]
        return values @ (member / member.sum(0))

    def shares(self, effects: Values) -> tuple[Values, Values, Values]:
        """Return the shares of the gap, with intervals, that effects [..., prompts] amount to."""
        return shares_of_gap(*map(self.by_group, (effects, self.receiver, self.donor)))

    def needed(self, effects: Values, sizes: Sequence[int], share: float) -> dict[str, Any]:
        """Return the smallest set size that recovers at least `share` of the gap, or None.

        Args:
            effects: [sizes, prompts] effects of the sets.
            sizes: their sizes, rising.
        """
        gap = self.by_group(self.donor - self.receiver)
        grouped = self.by_group(effects)
        drawn = np.random.default_rng(0).integers(len(gap), size=(RESAMPLES, len(gap)))
        drawn = np.vstack([np.arange(len(gap)), drawn])
        reached = (
            grouped[:, drawn].mean(-1) / gap[drawn].mean(-1) >= share
        )  # [sizes, 1 + resamples]
        first = np.where(reached.any(0), reached.argmax(0), len(sizes))
        low, high = np.quantile(first[1:], (0.025, 0.975), method="nearest")
        named = [*sizes, None]
        return {"size": named[first[0]], "low": named[low], "high": named[high]}


def random_by_layer(
    ranked: list[Component], sizes: Sequence[int], seed: int
) -> list[list[Component]]:
    """Return random sets with as many components of each layer as the first `size` ranked ones."""
    random = np.random.default_rng(seed)
    shuffled = [ranked[i] for i in random.permutation(len(ranked))]
    found = []
    for size in sizes:
        left = Counter(one.layer for one in ranked[:size])
        chosen = []
        for one in shuffled:
            if left[one.layer]:
                left[one.layer] -= 1
                chosen.append(one)
        found.append(chosen)
    return found


def random_anywhere(
    ranked: list[Component], sizes: Sequence[int], seed: int
) -> list[list[Component]]:
    """Return nested sets of random components from any layer."""
    order = np.random.default_rng(seed).permutation(len(ranked))
    return [[ranked[i] for i in order[:size]] for size in sizes]


def ranking(effects: Mapping[Component, Values], kinds: Sequence[str]) -> list[Component]:
    """Return the components of the given kinds, those with the largest mean effect first.

    Args:
        effects: [prompts] effect of each component, positive towards the donor.
    """
    means = {part: values.mean() for part, values in effects.items() if part.kind in kinds}
    return sorted(means, key=lambda part: -means[part])


def family_record(
    setup: PatchingSetup, judged: Judged, ranked: list[Component], draws: int
) -> dict[str, Any]:
    """Return shares of the gap by set size, of a family's largest components and both controls."""
    sizes = sorted({size for size in (*SIZES, len(ranked)) if size <= len(ranked)})
    sets = {LARGEST: [[ranked[:size] for size in sizes]]}
    if len({one.kind for one in ranked}) == 1 and ranked[0].kind == OUTPUT:
        sets[BY_LAYER] = [random_by_layer(ranked, sizes, seed) for seed in range(draws)]
    sets[ANYWHERE] = [random_anywhere(ranked, sizes, draws + seed) for seed in range(draws)]
    every = [one for drawn in sets.values() for some in drawn for one in some]
    distinct = list(dict.fromkeys(frozenset(one) for one in every))
    effects = dict(zip(distinct, setup.together([list(one) for one in distinct]), strict=True))
    found: dict[str, Any] = {"sizes": sizes, "named": list(map(str, ranked[:NAMED]))}
    measured = {}
    for kind, drawn in sets.items():
        values = np.array([[effects[frozenset(one)] for one in some] for some in drawn])
        measured[kind] = values.mean(0)
        mean, low, high = judged.shares(values.mean(0))
        found[kind] = {"mean": mean, "low": low, "high": high}
        if kind != LARGEST:
            alone = judged.shares(values)[0]
            found[kind] |= {"least": alone.min(0), "most": alone.max(0)}
            more = judged.shares(measured[LARGEST] - measured[kind])
            found[kind]["largest_more"] = dict(zip(("mean", "low", "high"), more, strict=True))
    found["needed"] = {
        str(share): judged.needed(measured[LARGEST], sizes, share) for share in SHARES
    }
    return found


def as_lists(value: Any) -> Any:
    """Return arrays as lists of numbers with four places."""
    if isinstance(value, dict):
        return {name: as_lists(one) for name, one in value.items()}
    return [round(float(one), 4) for one in value] if isinstance(value, np.ndarray) else value


class Sets:
    """Measures sets of components in one direction after another."""

    def __init__(self, run: Path, options: argparse.Namespace) -> None:
        body = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["config"]
        names = body["after"] if isinstance(body["after"], list) else [body["after"]]
        self.run, self.options = run, options
        self.before = reference(body["before"], "before")
        self.afters = [reference(name, "after") for name in names]
        config = read_model_config(self.before.model)
        encoding = EncodingConfig(**body["encoding"])
        encoder = Encoder(load_tokenizer_of(self.before), encoding, context_length(config))
        items = prompt_items(read_prompts(body["prompts"], encoder), encoder)[0]
        self.items = items[: body["compare"]["items"]]
        self.parts = list(components(shape(config), (OUTPUT, MLP)))
        longest = max((item.ids for item in items), key=len).tolist()
        self.models = Models("cpu", longest)

    def measure(self, after: ModelReference, direction: str) -> dict[str, Any]:
        """Record of one direction of patching between `before` and a model."""
        effects, ends = self._alone(after.name, direction)
        chosen, kept = halves(len(self.items))
        towards = np.sign((ends[1] - ends[0])[chosen].mean())
        effects = {part: towards * values[chosen] for part, values in effects.items()}
        names = [self._group(self.items[place].id) for place in kept]
        groups = np.array([list(dict.fromkeys(names)).index(name) for name in names])
        judged = Judged(groups, ends[0][kept], ends[1][kept])
        reason = no_gap(judged.by_group(judged.receiver), judged.by_group(judged.donor))
        if reason is not None:
            raise SystemExit(f"{after.name}: the gap between the models is {reason}")
        sides = [self.before, after]
        receiver, donor = sides if direction == "sufficiency" else reversed(sides)
        items = ItemSet([self.items[i] for i in kept])
        found: dict[str, Any] = {"prompts": len(kept), "groups": int(groups.max()) + 1}
        with TemporaryDirectory() as folder:
            with self.models.use(donor) as model:
                stored = Donor.record(HookedModel(model), items, BATCH, [LAST], Path(folder))
            with self.models.use(receiver) as model:
                setup = PatchingSetup(HookedModel(model), stored, items, BATCH, LAST, None, MEMORY)
                for name, kinds in FAMILIES.items():
                    ranked = ranking(effects, kinds)
                    found[name] = family_record(setup, judged, ranked, self.options.draws)
                    print(f"{after.name}, {direction}, {name}: measured", flush=True)
        return as_lists(found)

    def _alone(self, name: str, direction: str) -> tuple[dict[Component, Values], list[Values]]:
        """Return each component's own effect, and the metric of receiver and donor, [prompts]."""
        table = pyarrow.parquet.read_table(self.run / "compare" / name / "patching.parquet")
        place = {item.id: number for number, item in enumerate(self.items)}
        effects = {part: np.full(len(place), np.nan) for part in self.parts}
        ends = [np.full(len(place), np.nan) for _ in range(2)]
        for row in table.to_pylist():
            part = Component(row["layer"], row["kind"], row["index"])
            if row["direction"] == direction and part in effects:
                at = place[row["item"]]
                effects[part][at] = row["effect"]
                ends[0][at], ends[1][at] = row["receiver"], row["donor"]
        assert np.isfinite([*effects.values(), *ends]).all(), "compare.parts lacks output or mlp"
        return effects, ends

    def _group(self, id: str) -> str:
        found = re.search(self.options.groups, id)
        return id if found is None else found[1]


def main(arguments: Sequence[str] | None = None) -> None:
    reader = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reader.add_argument("run", type=Path, help="run directory of sumcirc compare")
    reader.add_argument("--results", type=Path, required=True, help="folder for head-sets.json")
    reader.add_argument("--draws", type=int, default=10, help="random sets of each size")
    reader.add_argument("--groups", default="(.*)", help="prompts with the same first match")
    reader.add_argument("--threads", type=int, default=1)
    options = reader.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / "head-sets.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    sets = Sets(options.run, options)
    for after in sets.afters:
        one = found.setdefault(after.name, {})
        for direction in ("sufficiency", "necessity"):
            if direction not in one:
                one[direction] = sets.measure(after, direction)
                write_json(file, found)


if __name__ == "__main__":
    main()
