"""What is moved in one direction, how it is named, and how well one backward pass tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.patching.components import Component, components
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.patching_runs import (
    FIRST,
    OWN,
    RANDOM,
    RANKED,
    agreement,
    carry,
    grid,
    label_of,
)
from sumcirc.compare.patching.patching_scores import (
    PatchingResult,
    PatchingSetup,
    first_sets,
    halves,
)
from sumcirc.errors import UserError
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import CompareOptions
from tests.compare.cases import some_items, two_models
from tests.compare.crossings import PLENTY
from tests.compare.made_findings import KINDS, SHAPE, made_moved

ITEMS = some_items(lengths=(6, 7, 8, 5))


def test_agreement_is_a_correlation_by_kind() -> None:
    moved = made_moved()
    found = agreement(moved)
    assert list(found) == ["output", "value", "residual"]  # 2 MLPs and a unembedding are too few
    for kind, values in found.items():
        rows = [i for i, part in enumerate(moved.parts) if part.kind == kind]
        measured, told = moved.effects[rows].mean(1), moved.attributed[rows].mean(1)
        assert values["pearson"] == pytest.approx(pearsonr(measured, told)[0])
        assert values["spearman"] == pytest.approx(spearmanr(measured, told)[0])
        assert values["pearson"] > 0.9


def test_parts_that_all_do_the_same_agree_with_nothing() -> None:
    moved = made_moved()
    frozen = PatchingResult(
        moved.parts, moved.receiver, moved.donor, moved.effects, 0 * moved.effects
    )
    assert agreement(frozen) == {}


def test_a_label_names_the_heads_of_a_group() -> None:
    assert label_of(Component(3, "value", 1), 8, 2) == "value.3.1 (heads 4-7)"
    assert label_of(Component(3, "key", 0), 8, 4) == "key.3.0 (heads 0-1)"
    assert label_of(Component(3, "value", 1), 8, 8) == "value.3.1"
    assert label_of(Component(3, "output", 5), 8, 2) == "output.3.5"
    assert label_of(Component(4, "unembedding"), 8, 2) == "unembedding"


def test_a_grid_has_every_part_of_a_kind_in_its_place() -> None:
    moved = made_moved()
    scores = np.arange(len(moved.parts), dtype=float)
    where = {str(part): score for part, score in zip(moved.parts, scores, strict=True)}
    heads = grid(moved, scores, "output", SHAPE.layers, SHAPE.heads)
    assert heads.tolist() == [[where[f"output.{i}.{j}"] for j in range(4)] for i in range(2)]
    streams = grid(moved, scores, "residual", SHAPE.layers + 1, 1)
    assert streams[:, 0].tolist() == [where[f"residual.{i}"] for i in range(3)]
    assert np.isnan(grid(moved, scores, "query", SHAPE.layers, SHAPE.heads)).all()


class Shown:
    """Stands in for progress: what was counted of what, by label."""

    def __init__(self) -> None:
        self.counts: dict[str, tuple[int, int]] = {}

    @contextmanager
    def __call__(self, label: str, total: int) -> Iterator[Any]:
        self.counts[label] = total, 0

        def done(count: int) -> None:
            self.counts[label] = total, self.counts[label][1] + count

        yield done


def crossing_of(folder: Path, items: ItemSet, unembedding: bool = True) -> PatchingSetup:
    before, after = two_models("llama")
    donor = Donor.record(HookedModel(after), items, 4, ["last"], folder, unembedding)
    return PatchingSetup(HookedModel(before), donor, items, 4, "last", None, PLENTY)


def test_everything_asked_for_is_moved(tmp_path: Path) -> None:
    options = CompareOptions(
        parts=KINDS, sets=[["output.0.1", "mlp.2"], ["unembedding"]], top=3, random_sets=2
    )
    shown = Shown()
    across = crossing_of(tmp_path, ITEMS)
    found = carry(across, options, 5, "tuned, sufficiency", shown)
    assert found.moved.parts == list(components(across.hooked.shape, KINDS))
    own = [one for one in found.sets if one.kind == OWN]
    assert [[str(part) for part in one.parts] for one in own] == options.sets
    alone = dict(zip(found.moved.parts, found.moved.effects, strict=True))
    np.testing.assert_allclose(found.set_effects[1], alone[Component(3, "unembedding")], atol=1e-9)
    first = [one.parts for one in found.sets if one.kind == FIRST]
    assert [len(one) for one in first] == [1, 2, 3]
    ranked = [i for i, part in enumerate(found.moved.parts) if part.kind in RANKED]
    few = PatchingResult(
        [found.moved.parts[i] for i in ranked],
        found.moved.receiver,
        found.moved.donor,
        found.moved.effects[ranked],
        found.moved.attributed[ranked],
    )
    assert first == first_sets(few, 3)
    drawn = [(one.draw, len(one.parts)) for one in found.sets if one.kind == RANDOM]
    assert drawn == [(draw, size) for draw in (0, 1) for size in (1, 2, 3)]
    assert all(part.kind in RANKED for one in found.sets[2:] for part in one.parts)
    assert [set(pair) for pair in found.pairs] == [
        {first[-1][i], first[-1][j]} for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    for pair, gained in zip(found.pairs, found.synergies, strict=True):
        together = across.together([pair])[0]
        np.testing.assert_allclose(gained, together - alone[pair[0]] - alone[pair[1]], atol=1e-9)
    assert len(shown.counts) == 3
    assert set(shown.counts.values()) == {(len(ITEMS), len(ITEMS))}
    assert all(label.startswith("tuned, sufficiency: move ") for label in shown.counts)


def test_less_may_be_asked_for(tmp_path: Path) -> None:
    options = CompareOptions(parts=["value", "unembedding"], top=3)
    found = carry(crossing_of(tmp_path, ITEMS, unembedding=False), options, 0, "", Shown())
    assert {part.kind for part in found.moved.parts} == {"value"}  # one unembedding is both models'
    assert (found.sets, found.pairs) == ([], [])  # nothing of which first sets are made
    assert found.set_effects.shape == found.synergies.shape == (0, len(ITEMS))


def test_one_item_has_no_other_half(tmp_path: Path) -> None:
    one = ItemSet(ITEMS.items[:1])
    found = carry(crossing_of(tmp_path, one), CompareOptions(parts=["mlp"]), 0, "", Shown())
    assert found.sets == []
    assert [len(half) for half in halves(1)] == [1, 0]


def test_a_set_of_unknown_parts_is_refused(tmp_path: Path) -> None:
    options = CompareOptions(parts=["mlp"], sets=[["mlp.7"]])
    with pytest.raises(UserError, match=r"compare\.sets: `mlp\.7` is not a part"):
        carry(crossing_of(tmp_path, ITEMS), options, 0, "", Shown())
