"""Landscapes of single modules and of single layers: terms, tables, words, pictures and files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.placement import several_views
from sumcirc.placement.analysis import Analysis, as_json
from sumcirc.placement.comparable import check_comparable
from sumcirc.placement.landscape import all_sets
from sumcirc.placement.landscape_files import Choice, read_landscape, write_landscape
from sumcirc.placement.several import Several
from sumcirc.placement.several import as_json as all_as_json
from sumcirc.placement.tables import tables
from sumcirc.placement.terms import effects, predictions, spaces, terms
from sumcirc.placement.units import Units, set_named
from sumcirc.placement.variance import anova
from sumcirc.placement.views import views
from sumcirc.placement.words import in_words, judged_in_words, markdown
from sumcirc.schema import MODULES
from sumcirc.storage.reading import RecordError
from sumcirc.storage.writing import plain_numbers
from tests.support.landscapes import Array, draw, landscape, measured, of_modules

QUIET = (0.3, 0.0, 1.0, 0.0, 0.3, 0.0)  # what all modules share; the means are exact
CLEAR = (0.3, 0.05, 1.0, 0.1, 0.3, 0.2)
UNITS = Units(6, MODULES)


def split(means: Array) -> tuple[Array, Array, Array]:
    """The parts of [layers, kinds] means due to layer, to kind, and to neither, by loops."""
    layers, kinds, rest = np.zeros(means.shape), np.zeros(means.shape), np.zeros(means.shape)
    for i in range(means.shape[0]):
        for k in range(means.shape[1]):
            layers[i, k] = np.mean(means[i]) - np.mean(means)
            kinds[i, k] = np.mean([row[k] for row in means]) - np.mean(means)
            rest[i, k] = means[i, k] - layers[i, k] - kinds[i, k] - np.mean(means)
    return layers, kinds, rest


def naive_variance(parts: Array, degrees: int) -> float:
    """A term's variance without noise; `parts` [modules, seeds, documents] are its part of each."""
    count, seeds, documents = parts.shape
    whole = parts.mean(axis=(1, 2), keepdims=True)
    by_seed, by_document = parts.mean(axis=2, keepdims=True), parts.mean(axis=1, keepdims=True)
    rest = parts - by_seed - by_document + whole
    effect = seeds * documents * (whole**2).sum() / degrees
    of_seeds = documents * ((by_seed - whole) ** 2).sum() / (degrees * (seeds - 1))
    of_documents = seeds * ((by_document - whole) ** 2).sum() / (degrees * (documents - 1))
    of_rest = (rest**2).sum() / (degrees * (seeds - 1) * (documents - 1))
    error = of_seeds + of_documents - of_rest
    return float((effect - error) * degrees / (seeds * documents * count))


def test_modules_are_named_by_layer_and_counted_as_in_a_ranking() -> None:
    assert UNITS.count == 24
    assert UNITS.names[:5] == ("0.qkv", "0.attn_out", "0.mlp_in", "0.mlp_out", "1.qkv")
    assert UNITS.label((3, 22)) == "0.mlp_out,5.mlp_in"
    assert set_named("x", ["5.mlp_in"], UNITS, 1) == (22,)
    for modules in (("qkv",), ("qkv", "qkv")):
        with pytest.raises(ValueError, match="name two or more"):
            Units(6, modules)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([0], r"x: chose layers \[0\], but the landscape has single modules; .* such as \[0.qkv\]"),
        (["6.qkv"], r"chose modules \[6.qkv\]; layer 6 is out of range, the model has 6 layers"),
        (["0.c_fc"], r"0.c_fc: no such module is in it, only qkv, attn_out, mlp_in, mlp_out"),
        (["0.qkv", "1.qkv"], "has single modules, so a choice of 2 has no place in it; choose 1"),
        (["0.qkv", "0.qkv"], "a module is named twice, name 1 different"),
    ],
)
def test_choices_that_are_no_module_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        set_named("x", names, UNITS, 1)


def test_a_module_has_no_place_among_sets_of_layers() -> None:
    message = r"chose modules \[0.qkv\], but the landscape has sets of 3 layers; .* \[0,1,2\]"
    with pytest.raises(UserError, match=message):
        set_named("x", ["0.qkv"], Units(6), 3)


def test_terms_are_those_of_the_two_way_analysis_of_variance() -> None:
    scores = draw(np.random.default_rng(0).normal(size=24), spreads=CLEAR, rng=1)
    found = terms(of_modules(scores))
    assert [(term.name, term.degrees) for term in found] == [
        ("layers", 5),
        ("kinds", 3),
        ("layer x kind", 15),
    ]
    cells = scores.reshape(6, 4, -1)
    parts = np.stack([np.stack(split(cells[..., i])) for i in range(cells.shape[2])], axis=-1)
    for term, part in zip(found, parts, strict=True):
        assert term.variance == pytest.approx(
            naive_variance(part.reshape(scores.shape), term.degrees)
        )
    whole = anova(scores).sources["sets"].component
    assert sum(term.variance for term in found) == pytest.approx(whole)
    basis = np.vstack(list(spaces(landscape(scores, 6, 1, MODULES)).values()))
    np.testing.assert_allclose(basis @ basis.T, np.eye(23), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=1), 0, atol=1e-12)


def test_layer_and_kind_that_add_up_have_no_interaction() -> None:
    means = np.add.outer([0.0, 1.0, -1.0, 0.5, 0.2, 0.0], [0.3, 0.0, -0.5, 0.1])
    layers, kinds, beyond = terms(of_modules(draw(means.ravel(), spreads=QUIET)))
    assert layers.variance == pytest.approx(means.mean(axis=1).var())
    assert kinds.variance == pytest.approx(means.mean(axis=0).var())
    assert beyond.variance == pytest.approx(0, abs=1e-12)


def test_noise_is_removed_although_modules_of_a_layer_share_it() -> None:
    """Layers interact with documents and seeds: pooled noise would leave variance in their term."""
    rng = np.random.default_rng(3)
    estimates, rejected = [], []
    for _ in range(300):
        scores = draw([0.0] * 24, documents=20, spreads=(0, 0, 0, 0, 0, 0.2), rng=rng)
        scores += np.repeat(rng.normal(size=(6, 20)), 4, axis=0)[:, None]
        scores += np.repeat(0.3 * rng.normal(size=(6, 3)), 4, axis=0)[:, :, None]
        found = terms(of_modules(scores))
        estimates.append([term.variance for term in found])
        rejected.append([term.p_value < 0.05 for term in found])
    means, errors = np.mean(estimates, axis=0), np.std(estimates, axis=0) / 300**0.5
    assert (np.abs(means) < 4 * errors).all()
    assert errors[0] > 10 * errors[2]
    assert (np.mean(rejected, axis=0) < 0.09).all()


def test_effects_are_the_modules_of_a_layer_or_kind_minus_all_others() -> None:
    scores = draw(np.random.default_rng(1).normal(size=24), spreads=CLEAR, rng=2)
    found = effects(of_modules(scores))
    assert [one.term for one in found] == ["layers"] * 6 + ["kinds"] * 4
    assert [one.name for one in found] == [*map(str, range(6)), *MODULES]
    for one in found:
        belongs = [
            one.name in name.split(".") if one.term == "kinds" else name.startswith(f"{one.name}.")
            for name in map(str, UNITS.names)
        ]
        inside = [scores[i].mean() for i in range(24) if belongs[i]]
        outside = [scores[i].mean() for i in range(24) if not belongs[i]]
        assert one.effect == pytest.approx(np.mean(inside) - np.mean(outside))
        assert one.low < one.effect < one.high


def test_intervals_of_effects_cover() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(200):
        scores = draw([0.0] * 24, documents=20, rng=rng)
        scores += np.tile(rng.normal(size=(4, 20)), (6, 1))[:, None]  # kinds share documents' noise
        covered.append([one.low <= 0 <= one.high for one in effects(of_modules(scores))])
    shares = np.mean(covered, axis=0)
    assert shares[:6].mean() > 0.93
    assert shares[6:].mean() > 0.93


def test_left_out_modules_are_predicted_by_layer_and_kind() -> None:
    rng = np.random.default_rng(6)
    means = np.add.outer(rng.normal(size=6), rng.normal(size=4))
    quiet = of_modules(draw(means.ravel(), spreads=QUIET))
    found = predictions(quiet, anova(quiet.scores).noise, subsets=300)
    assert [one.measured for one in found] == [10, 14, 19]
    for one in found:
        assert one.additive == pytest.approx(0, abs=1e-7)
        assert one.mean > 0.3
        # some choices have no module of a layer or kind, and are not counted
        assert 0 < one.subsets < 300 or one.measured == 19
    assert predictions(quiet, anova(quiet.scores).noise, sizes=[8]) == []  # 9 numbers are sought
    means[2, 3] += 5.0
    found = predictions(of_modules(draw(means.ravel(), spreads=QUIET)), anova(quiet.scores).noise)
    assert all(one.additive > 0.8 for one in found)


@pytest.fixture(scope="module")
def modules() -> Analysis:
    means = np.add.outer([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], [0.0, 0.1, 0.0, 0.2])
    means[1, 3] += 0.4
    scores = draw(means.ravel(), seeds=2, documents=30, spreads=(0.1, 0.01, 0.2, 0.05, 0.05, 0.1))
    return Analysis(of_modules(scores), splits=20)


def test_a_selectors_scores_are_compared_with_the_means_of_modules(modules: Analysis) -> None:
    means = modules.measured.means
    best = int(means.argmax())
    scores = np.random.default_rng(0).normal(size=24) + 5 * means
    found = modules.judged(Choice("page", ((best,),), tuple(scores)))
    assert (found.rank, found.skill.skill) == (1, pytest.approx(1.0))
    assert found.p_value == pytest.approx(1 / 24)
    assert found.agreement is not None
    assert found.agreement.pearson == pytest.approx(np.corrcoef(scores, means)[0, 1])
    reliability = modules.variance.reliability
    assert found.agreement.corrected == pytest.approx(found.agreement.pearson / reliability**0.5)


def test_tables_and_words_speak_of_modules(modules: Analysis) -> None:
    judged = [
        modules.judged(Choice(name, ((place,),), tuple(np.arange(24.0))))
        for name, place in (("page", 7), ("last", 20))
    ]
    found = {table.title: table for table in tables(modules, judged)}
    assert list(found) == [
        "all single modules",
        "facts x 100 by layer and kind of module",
        "analysis of variance of single summaries' scores",
        "do layer and kind add up? (noise removed)",
        "modules of a layer minus all others",
        "modules of a kind minus all others",
        "root mean squared error for left-out modules",
        "selectors",
    ]
    assert found["all single modules"].headings[0] == "modules"
    assert found["all single modules"].rows[0][0] == "1.mlp_out"
    assert found["all single modules"].rows[0][-1] == "page"
    crossed = found["facts x 100 by layer and kind of module"]
    assert crossed.headings == ("layer", *MODULES, "all")
    means = 100 * modules.measured.means.reshape(6, 4)
    assert [float(cell) for cell in crossed.rows[1][1:5]] == pytest.approx(means[1], abs=0.5)
    assert float(crossed.rows[-1][4]) == pytest.approx(means[:, 3].mean(), abs=0.5)
    assert float(crossed.rows[2][-1]) == pytest.approx(means[2].mean(), abs=0.5)
    assert float(crossed.rows[-1][-1]) == pytest.approx(means.mean(), abs=0.5)
    sources = [row[0] for row in found["analysis of variance of single summaries' scores"].rows]
    assert sources[:1] + sources[3:5] == ["modules", "module x seed", "module x document"]
    assert found["selectors"].headings[:3] == ["selector", "modules", "rank"]
    assert "rank correlation with means" in found["selectors"].headings
    text = "\n".join(in_words(modules, judged))
    assert text.startswith("24 single modules of 6 layers, 2 seeds, 30 documents;")
    assert "24 modules can't be told from the best; two modules differ if" in text
    assert "layer and kind of module don't simply add up: single modules differ" in text
    shares = re.search(r"noise removed: (\d+) % layers, (\d+) % kinds, (\d+) % layer x kind", text)
    assert shares is not None
    variances = [term.variance for term in modules.terms]
    assert [int(one) for one in shares.groups()] == [
        round(100 * one / sum(variances)) for one in variances
    ]
    assert "one would pick the best module in" in text
    said = "\n".join(judged_in_words(modules, judged[0]))
    assert said.startswith("page chooses modules 1.mlp_out: rank 1 of 24, skill 1.00")
    assert "(0: a random draw, 1: the best module)" in said
    assert "a random module is at least as good" in said
    page = markdown(modules, judged, [])
    assert not re.search(r"\bsets?\b", page)
    record = plain_numbers(as_json(modules, judged))
    assert record["modules"] == list(MODULES)
    assert record["sets"][0]["units"] == ["1.mlp_out"]
    assert record["selectors"][1]["sets"] == [["5.qkv"]]
    assert set(record["reliability"]) == {"sets", "modules"}


def test_pictures_show_modules(modules: Analysis) -> None:
    judged = [modules.judged(Choice("page", ((7,),)))]
    drawn = {name: make() for name, make in views(modules, judged).items()}
    assert list(drawn) == ["sets", "layers", "modules"]
    bar = drawn["sets"].panel.bars[0]
    assert bar.name == "1.mlp_out  page"
    assert not re.search(r"\bsets?\b", " ".join((drawn["sets"].caption, drawn["sets"].alt)))
    layers, kinds = (row[0] for row in drawn["layers"].panels)
    assert [one.name for one in layers.bars] == ["5", "4", "3", "2", "1", "0"]
    assert [one.name for one in kinds.bars] == list(reversed(MODULES))
    panel = drawn["modules"].panel
    means = 100 * modules.measured.means.reshape(6, 4)
    np.testing.assert_allclose(panel.values, means - means.mean())
    framed = {(i, k) for i, k in np.argwhere(panel.framed)}
    best = [divmod(one.units[0], 4) for one in modules.sets if one.candidate]
    assert framed == set(best)


def test_modules_are_compared_between_landscapes(modules: Analysis) -> None:
    rng = np.random.default_rng(5)
    other = replace(modules.measured.landscape, name="other")
    scores = modules.measured.scores + 0.05 * rng.normal(size=modules.measured.scores.shape)
    other = replace(other, scores={"facts": scores})
    choices = [[Choice("page", ((7,),))]] * 2
    both = [modules, Analysis(other.measured("facts"), splits=4)]
    found = Several(both, choices, ["a", "b"], draws=200)
    (pair,) = found.pairs
    assert list(pair.effects) == ["layers", "kinds"]
    effects_of = [[e.effect for e in one.effects if e.term == "kinds"] for one in both]
    assert pair.effects["kinds"].pearson == pytest.approx(np.corrcoef(*effects_of)[0, 1])
    shown = several_views.tables(found)
    assert [row[1] for row in shown[0].rows] == ["modules", "layers", "kinds"]
    assert shown[1].headings[0] == "modules"
    assert shown[2].rows[0][1] == "1.mlp_out"
    assert "modules may be the best in every landscape" in "\n".join(several_views.in_words(found))
    assert several_views.against(found, 0, 1).rows[7][0] == "1.mlp_out"
    body = plain_numbers(all_as_json(found))
    assert body["selectors"]["page"]["judgements"][0]["sets"] == [["1.mlp_out"]]


def test_modules_are_not_compared_with_layers() -> None:
    of_one = landscape(draw([0.0] * 24), 6, 1, MODULES)
    of_three = landscape(draw([0.0] * 20))
    fewer = landscape(draw([0.0] * 12), 6, 1, MODULES[:2])
    message = "has sets of 3 layers, simulated single modules (qkv, attn_out, mlp_in, mlp_out);"
    for first, other, text in (
        (of_one, of_three, message),
        (of_one, fewer, "has single modules (qkv, attn_out), simulated single modules"),
        (of_three, of_one, "simulated sets of 3 layers; compare landscapes of layers, or of the"),
    ):
        with pytest.raises(UserError, match=re.escape(text)):
            check_comparable(first, other, "runs/x", "facts", "facts")


def test_single_layers_have_no_parts() -> None:
    """Six sets of one layer: nothing adds up, nothing is left out, and a layer is its set."""
    scores = draw(np.arange(6.0), seeds=2, documents=12, spreads=CLEAR, rng=1)
    found = Analysis(measured(scores, 6, 1), splits=4)
    assert (found.terms, found.effects, found.predictions) == ([], [], [])
    means = found.measured.means
    judged = [
        found.judged(Choice("page", ((5,),), tuple(means))),
        found.judged(Choice("x", ((0,),))),
    ]
    assert judged[0].agreement is not None
    assert judged[0].agreement.pearson == pytest.approx(1.0)
    titles = [table.title for table in tables(found, judged)]
    assert titles == [
        "all single layers",
        "analysis of variance of single summaries' scores",
        "selectors",
    ]
    text = "\n".join(in_words(found, judged))
    assert text.startswith("6 single layers, 2 seeds, 12 documents;")
    assert "add up" not in text
    page = markdown(found, judged, [])
    assert not re.search(r"\bsets?\b", page)
    drawn = {name: make() for name, make in views(found, judged).items()}
    assert list(drawn) == ["sets"]
    assert drawn["sets"].title == "All single layers"
    other = Analysis(measured(scores + 0.1 * np.arange(12), 6, 1), splits=4)
    several = Several([found, other], [[], []], ["a", "b"], draws=50)
    assert several.pairs[0].effects == {}
    assert [row[1] for row in several_views.pairs_table(several).rows] == ["layers"]
    as_json(found, judged)


def test_a_landscape_of_modules_is_stored_with_names(tmp_path: Path) -> None:
    made = landscape(draw(np.arange(24.0), seeds=2, documents=9), 6, 1, MODULES)
    choice = Choice("page", ((3,), (22,)), tuple(map(float, range(24))))
    write_landscape(made, [choice], tmp_path)
    body = json.loads((tmp_path / "landscape.json").read_text(encoding="utf-8"))
    assert body["modules"] == list(MODULES)
    assert body["choices"]["page"]["sets"] == [["0.mlp_out"], ["5.mlp_in"]]
    again, choices = read_landscape(tmp_path)
    assert choices == [choice]
    assert (again.sets, again.modules) == (all_sets(24, 1), MODULES)
    np.testing.assert_array_equal(again.scores["facts"], made.scores["facts"])
    for change, message in (
        ({"modules": ["qkv"]}, "`modules` are not two names or more"),
        ({"modules": ["qkv", "mlp_in"]}, "has no column 'modules'|0.attn_out"),
        ({"size": 24}, "`size` is no number below 24 modules"),
        ({"choices": {"page": {"sets": [[3]]}}}, r"choices.page.sets.*chose layers \[3\]"),
        ({"choices": {"page": {"sets": [["6.qkv"]]}}}, "layer 6 is out of range"),
    ):
        (tmp_path / "landscape.json").write_text(json.dumps({**body, **change}), encoding="utf-8")
        with pytest.raises(RecordError, match=message):
            read_landscape(tmp_path)
    del body["modules"]
    (tmp_path / "landscape.json").write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(RecordError):
        read_landscape(tmp_path)
