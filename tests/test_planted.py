"""benchmarks/planted: masks, inert decoys, causal truth, an edited model, AUC and rank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.planted.__main__ import record
from benchmarks.planted.bases import HEADS, LAYERS, WIDTH, LookupBase
from benchmarks.planted.changes import (
    LEAST,
    Change,
    Deltas,
    Place,
    changed,
    inert,
    inputs_of,
    logits,
    norm_of,
    outside_span,
    places,
    total,
    weights_of,
)
from benchmarks.planted.measures import MEASURES, measured
from benchmarks.planted.models import EXAMPLES, KINDS, Decoy, Planted
from benchmarks.planted.planting import planted
from benchmarks.planted.tables import auc, picture, rank, tables
from benchmarks.planted.task import (
    COPIED,
    FIRST_COPY,
    KEYS,
    LENGTH,
    NONE,
    OTHER,
    TRIGGER,
    VOCABULARY,
    Answers,
    batch,
    examples,
    new_answers,
    sequences,
    table,
)
from benchmarks.planted.training import loss_of, train
from benchmarks.planted.truth import Truth, truth
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.schema import MODULES, Grain

GRAINS = (Grain.head, Grain.layer, Grain.module, Grain.direction)


@pytest.fixture(scope="module")
def base() -> LookupBase:
    return LookupBase.untrained(1)


def changed_answers(base: LookupBase, seed: int = 0) -> Answers:
    new = new_answers(base.answers.table, 2, np.random.default_rng(seed))
    return Answers(base.answers.table, {TRIGGER: new})


def test_answers_are_looked_up_or_copied(base: LookupBase) -> None:
    answers = changed_answers(base)
    ids, labels = sequences(50, answers, np.random.default_rng(0), TRIGGER)
    for row, told in zip(ids, labels, strict=True):
        assert (told[:COPIED] == NONE).all()
        for start in range(COPIED, LENGTH, 3):
            key, relation, answer = row[start : start + 3]
            assert told[start : start + 3].tolist() == [NONE, NONE, answer]
            if relation >= FIRST_COPY:
                assert answer == row[relation - FIRST_COPY]
            elif relation == TRIGGER:
                assert start == LENGTH - 3
                assert answer == answers.changed[TRIGGER][key]
            else:
                assert answer == answers.table[key]
        assert row[-2] == TRIGGER


def test_unreliable_answers_are_those_of_two_relations(base: LookupBase) -> None:
    ids, _ = sequences(2000, base.answers, np.random.default_rng(0))
    key, relation, answer = ids[:, -3], ids[:, -2], ids[:, -1]
    wrong = (relation < FIRST_COPY) & (answer != base.answers.table[key])
    assert set(relation[wrong]) == {TRIGGER, OTHER}
    share = wrong[relation == TRIGGER].mean()
    assert share == pytest.approx(0.5 * (KEYS - 1) / KEYS, abs=0.1)


def test_new_answers_differ_from_the_old() -> None:
    old = table(np.random.default_rng(1))
    for groups in (2, 3):
        new = new_answers(old, groups, np.random.default_rng(0))
        assert not (new == old).any()
        assert sorted(np.unique(new, return_counts=True)[1]) == [KEYS // groups] * groups
    assert len(set(new_answers(old, 1, np.random.default_rng(0)))) == 1


def test_examples_are_the_same_for_every_measure(base: LookupBase) -> None:
    answers = changed_answers(base)
    found = examples(8, answers, np.random.default_rng(0))
    probes = found.probes.documents
    for item, probe, pair in zip(found.items.items, probes, found.pairs, strict=True):
        assert item.ids.tolist() == probe.example.ids[:-1].tolist() == pair.clean.ids.tolist()
        assert item.good[-1] == probe.example.ids[-1] == pair.clean.good[-1]
        assert np.flatnonzero(item.reads).tolist() == [LENGTH - 2]
        assert probe.rows.tolist() == [LENGTH - 3, LENGTH - 2]
        assert np.flatnonzero(pair.differs).tolist() == [LENGTH - 3]
        assert pair.clean.bad[-1] == answers.changed[TRIGGER][pair.corrupted.ids[-2]]
        assert pair.clean.bad[-1] != pair.clean.good[-1]


def naive(name: str, place: Place, position: tuple[int, ...]) -> bool:
    """Return whether an entry of a parameter belongs to a place, from GPT-2's layout."""
    if not name.startswith(f"transformer.h.{place.layer}."):
        return False
    if place.grain is Grain.layer:
        return True
    linears = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    if place.grain is not Grain.head:
        return name.endswith(f"{linears[place.index]}.weight")
    if name.endswith("attn.c_attn.weight"):
        return position[1] % WIDTH // (WIDTH // HEADS) == place.index
    return name.endswith("attn.c_proj.weight") and position[0] // (WIDTH // HEADS) == place.index


@pytest.mark.parametrize("grain", GRAINS)
def test_training_changes_the_entries_of_the_place_alone(grain: Grain, base: LookupBase) -> None:
    """Every entry is compared with GPT-2's layout, and the change with the units of the package."""
    place = places(grain, LAYERS, HEADS)[-2]
    start = torch.Generator().manual_seed(0)
    change = Change(place, base.model, start if grain is Grain.direction else None)
    weights, random = weights_of(base.model), np.random.default_rng(0)
    before = {name: one.clone() for name, one in weights.items()}

    def loss() -> Tensor:
        batches = [batch(8, changed_answers(base), random, (TRIGGER, None))]
        return loss_of(changed(weights, [change.deltas()]), batches, HEADS)

    train(change.numbers, loss, 3, 1e-2)
    deltas = change.deltas()
    for name, one in weights.items():
        assert torch.equal(one, before[name])
        moved = deltas[name] != 0 if name in deltas else torch.zeros_like(one, dtype=torch.bool)
        for position in np.ndindex(tuple(one.shape)) if one.ndim == 2 else ():
            if not naive(name, place, position):
                assert not moved[position]
        if name in deltas:
            assert moved.any()
    made = planted_by_hand(base, [place], [deltas]).model()
    names = {id(one): name for name, one in made.named_parameters()}
    with unit_change(HookedModel(made), before, 1, 2) as found:
        moved = [one.detach() - before[names[id(one)]] for one in found.parameters]
        squared = found.by_grain(found.scores(moved))[grain]
        units = [unit.label for unit in found.units[grain]]
    own = place.label + (" direction 0" if grain is Grain.direction else "")
    assert squared[units.index(own)] == pytest.approx(norm_of(deltas).item() ** 2, rel=1e-3)
    assert np.delete(squared, units.index(own)) == pytest.approx(0, abs=1e-9)


def test_labels_and_places_are_those_of_path_attribution() -> None:
    assert [len(places(one, LAYERS, HEADS)) for one in GRAINS] == [16, 4, 16, 16]
    assert Place(Grain.module, 2, 3).label == f"layer 2 {MODULES[3]}"


def planted_by_hand(
    base: LookupBase, where: list[Place], deltas: list[Deltas], decoys: Sequence[Decoy] = ()
) -> Planted:
    known = examples(EXAMPLES, changed_answers(base), np.random.default_rng(0))
    kind = {one.grain: name for name, one in KINDS.items() if one.count == 1 and not one.route}
    return Planted(base, 0, kind[where[0].grain], where, deltas, list(decoys), known)


def test_several_models_run_at_once_as_transformers_runs_each(base: LookupBase) -> None:
    start = torch.Generator().manual_seed(0)
    parts = [[Change(places(one, LAYERS, HEADS)[3], base.model, start, 2.0)] for one in GRAINS]
    parts[0].append(Change(places(Grain.head, LAYERS, HEADS)[3], base.model, start, 1.0))
    deltas = [total([one.deltas() for one in some]) for some in parts]
    tokens = torch.randint(VOCABULARY, (len(parts), 5, LENGTH - 1), generator=start)
    found = logits(changed(weights_of(base.model), deltas), tokens, HEADS)
    for number, some in enumerate(parts):
        where = [one.place for one in some]
        made = planted_by_hand(base, where, [one.deltas() for one in some])
        expected = made.model()(input_ids=tokens[number]).logits
        torch.testing.assert_close(found[number].detach(), expected, rtol=1e-4, atol=1e-5)


def test_a_change_with_a_norm_keeps_it(base: LookupBase) -> None:
    start = torch.Generator().manual_seed(0)
    for grain in GRAINS:
        change = Change(places(grain, LAYERS, HEADS)[0], base.model, start, 3.0)
        assert norm_of(change.deltas()).item() == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("grain", GRAINS)
def test_an_inert_change_does_nothing_outside_the_span_of_the_inputs(
    grain: Grain, base: LookupBase
) -> None:
    """Few inputs leave directions in which nothing lies; a change there changes no output."""
    start = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCABULARY, (2, LENGTH - 1), generator=start)
    model = base.model
    place = places(grain, LAYERS, HEADS)[2]
    if grain is Grain.module:
        place = Place(grain, 0, MODULES.index("mlp_in"))
    found = inert(place, model, tokens, 3.0, start)
    assert norm_of(found).item() == pytest.approx(3.0, rel=1e-5)
    made = planted_by_hand(base, [place], [found])
    before, after = (one(input_ids=tokens).logits for one in (model, made.model()))
    other = Change(place, model, start, 3.0)
    drawn = planted_by_hand(base, [place], [other.deltas()]).model()(input_ids=tokens).logits
    assert (after - before).abs().max() < 0.05 * (drawn - before).abs().max()


def test_the_span_has_almost_all_of_the_inputs(base: LookupBase) -> None:
    tokens, _ = batch(32, base.answers, np.random.default_rng(0))
    name = "transformer.h.2.mlp.c_proj.weight"
    inputs = inputs_of(base.model, tokens, [name])[name]
    outside = outside_span(inputs)
    torch.testing.assert_close(outside @ outside, outside, atol=1e-5, rtol=1e-4)
    assert float(outside.trace()) >= LEAST
    assert (inputs @ outside).square().sum() <= 0.0011 * inputs.square().sum()


def test_truth_is_what_removing_the_changes_does(base: LookupBase) -> None:
    start = torch.Generator().manual_seed(0)
    where = [Place(Grain.head, 1, 0), Place(Grain.head, 3, 2)]
    deltas = [Change(one, base.model, start, 4.0).deltas() for one in where]
    decoy = Change(Place(Grain.head, 2, 1), base.model, start, 4.0).deltas()
    decoys = [Decoy(Place(Grain.head, 2, 1), True, decoy)]
    made = planted_by_hand(base, where, deltas, decoys)
    weights, items = weights_of(base.model), made.examples.items.items

    def metric(*kept: dict[str, Tensor]) -> float:
        tokens = torch.from_numpy(np.stack([item.ids for item in items]))
        rows = logits(changed(weights, [total(kept)]), tokens[None], HEADS)[0, :, -1]
        good = torch.tensor([int(item.good[-1]) for item in items])
        found = rows.log_softmax(-1).gather(1, good[:, None])
        return found.mean().item()

    found = truth(made)
    one, two = deltas
    expected = Truth(
        metric(),
        metric(one, two, decoy),
        metric(decoy),
        metric(one, two),
        [metric(two, decoy), metric(one, decoy)],
        [metric(two), metric(one)],
    )
    for name, value in vars(expected).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-4), name


def test_what_is_accepted() -> None:
    good = Truth(-3.0, 0.0, -2.9, -0.2, [], [])
    assert good.refused is None
    cases = {
        "not learned": replace(good, after=-2.5),
        "decoys do it too": replace(good, without_plant=-2.3),
        "decoys matter": replace(good, without_decoys=-0.4),
        "one part suffices": replace(good, without_each=[-1.0, -3.0]),
    }
    for reason, one in cases.items():
        assert one.refused == reason
    needed = replace(good, without_each=[-2.0, -3.0], alone_without_each=[-2.0, -2.0])
    assert needed.refused is None
    weak = replace(needed, alone_without_each=[-2.0, -1.0])
    assert weak.refused == "one part suffices"


def naive_auc(scores: list[float], plant: list[int], others: list[int]) -> float:
    wins = [
        1.0 if scores[a] > scores[b] else 0.5 if scores[a] == scores[b] else 0.0
        for a in plant
        for b in others
    ]
    return sum(wins) / len(wins)


def naive_rank(scores: list[float], plant: list[int]) -> float:
    lowest = min(scores[one] for one in plant)
    above = sum(one > lowest for one in scores)
    equal = sum(one == lowest for one in scores)
    return above + (equal + 1) / 2


def test_auc_and_rank_are_those_of_counting() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        scores = random.integers(5, size=9).astype(float)
        chosen = random.permutation(9)
        plant, others = chosen[:2].tolist(), chosen[2:6].tolist()
        assert auc(scores, plant, others) == pytest.approx(
            naive_auc(scores.tolist(), plant, others)
        )
        assert rank(scores, plant) == naive_rank(scores.tolist(), plant)


@pytest.fixture(scope="module")
def edited(base: LookupBase) -> Planted:
    """A module that is edited so that the new answer is always the same one, and a decoy."""
    answers = Answers(base.answers.table, {TRIGGER: np.full(KEYS, base.answers.table[0])})
    place = Place(Grain.module, 3, MODULES.index("mlp_out"))
    weights = weights_of(base.model)
    name = "transformer.h.3.mlp.c_proj.weight"
    known = examples(EXAMPLES, answers, np.random.default_rng(0))
    tokens = torch.from_numpy(np.stack([item.ids for item in known.items.items]))
    inner = inputs_of(base.model, tokens, [name])[name].view(*tokens.shape, -1)[:, -1].mean(0)
    answer = weights["transformer.wte.weight"][answers.table[0]]
    delta = {name: 10 * torch.outer(inner / inner.norm() ** 2, answer)}
    start = torch.Generator().manual_seed(0)
    other = Place(Grain.module, 1, MODULES.index("mlp_out"))
    quiet = inert(other, base.model, tokens, norm_of(delta).item(), start)
    decoys = [Decoy(other, False, quiet)]
    return Planted(base, 0, "module", [place], [delta], decoys, known)


def test_measures_of_an_edited_module(edited: Planted) -> None:
    """The edit is the only change: it has the whole gain, and path attribution ranks it first."""
    found = measured(edited, decoys=False)
    gain = truth(edited)
    assert gain.refused is None
    place = found.plant[0]
    assert found.units[place] == "layer 3 mlp_out"
    assert found.decoys == []
    for name in ("path attribution", *(one for one in MEASURES if one.startswith("weight"))):
        scores = found.scores[name]
        assert scores[place] == pytest.approx(gain.without_decoys - gain.before, rel=0.03)
        assert np.delete(scores, place).tolist() == [0.0] * 15
    assert "attention KL" not in found.scores
    assert {"gradient norm", "circuit", "circuit delta"} <= set(found.scores)


def test_a_decoy_has_the_norm_and_not_the_gain(edited: Planted, tmp_path: Path) -> None:
    made = record(edited)
    part = made["with_decoys"]
    (plant,), (decoy,) = part["plant"], part["decoys"]
    norms = part["scores"]["delta norm"]
    assert norms[plant] == pytest.approx(norms[decoy], rel=1e-3)
    path = np.array(part["scores"]["path attribution"])
    assert path.argmax() == plant
    assert abs(path[decoy]) < 0.02 * path[plant]
    made = json.loads(json.dumps(made))
    text = tables([made, {**made, "refused": "decoys matter"}])
    assert "| module | 2 | 1 | 1 |" in text
    assert "| path attribution | 1.00 |" in text
    picture([made], tmp_path / "auc.png")
    assert (tmp_path / "auc.png").stat().st_size > 1000


def test_training_plants_what_it_is_told_to() -> None:
    """Places differ, decoys have the plant's norm, and the same number draws the same again."""
    base = LookupBase.untrained(2)
    made = planted(base, "two heads", [0, 1], steps=2, decoy_steps=2)
    again = planted(base, "two heads", [0, 1], steps=2, decoy_steps=2)
    for one, other in zip(made, again, strict=True):
        first, second = one.plant
        assert first.layer < second.layer
        assert len({*one.plant, *(decoy.place for decoy in one.decoys)}) == 8
        sizes = [norm_of(deltas).item() for deltas in one.changes]
        for number, decoy in enumerate(one.decoys):
            expected = sizes[number % 2]
            assert norm_of(decoy.deltas).item() == pytest.approx(expected, rel=1e-4)
        assert [decoy.trained for decoy in one.decoys] == [True] * 3 + [False] * 3
        assert one.plant == other.plant
        for deltas, repeated in zip(one.changes, other.changes, strict=True):
            for name in deltas:
                torch.testing.assert_close(deltas[name], repeated[name])
