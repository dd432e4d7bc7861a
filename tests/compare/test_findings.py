"""Tables of a comparison: their columns, a row an item, and the values that were found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from sumcirc.compare import findings
from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.tracking.measure_records import record_file
from tests.compare.made_findings import COUNT, ITEMS, SHAPE, made_findings, save_all


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Path]:
    folder, found = tmp_path_factory.mktemp("compare") / "tuned", made_findings()
    save_all(found, folder)
    return found, folder


def promised() -> dict[str, list[str]]:
    """Columns by table as the module's docstring names them."""
    lines = re.findall(r"^    (\w+) {2,}(.+)$", str(findings.__doc__), re.MULTILINE)
    return {
        name: re.findall(r"\w+", re.sub(r"\(.*?\)", "", columns))  # what a column may hold
        for name, columns in lines
    }


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()


def of(rows: list[dict[str, Any]], column: str, **wanted: Any) -> np.ndarray:
    """A column of the rows with these values, which are in the order of items."""
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    if "item" in chosen[0]:
        assert [row["item"] for row in chosen] == ITEMS
    return np.array([row[column] for row in chosen], dtype=float)


def test_every_table_has_the_columns_that_it_promises(saved: tuple[Findings, Path]) -> None:
    _, folder = saved
    assert set(promised()) == {file.stem for file in folder.glob("*.parquet")}
    for name, columns in promised().items():
        assert list(table(folder, name)[0]) == columns, name


def test_rows_are_of_one_item_each(saved: tuple[Findings, Path]) -> None:
    found, folder = saved
    assert found.delta_scaling is not None
    arms, carried = len(found.delta_scaling.arms), found.carried["necessity"]
    contributions = 3 + 2 * SHAPE.layers + SHAPE.layers * SHAPE.heads
    expected = {
        "patching": 2 * len(carried.moved.parts) * COUNT,
        "sets": 2 * len(carried.sets) * COUNT,
        "synergy": 2 * len(carried.pairs) * COUNT,
        "direct": 2 * contributions * COUNT,
        "attention": 2 * 2 * SHAPE.layers * SHAPE.heads * COUNT,
        "logit_lens": 2 * 3 * (SHAPE.layers + 1) * COUNT,
        "surgery": arms * COUNT,
        "text": arms * found.delta_scaling.losses.shape[1],
        "path": (4 + 6 + 30 + 1) * COUNT,
        "path_effects": (3 * 4 + 3 * 5) * COUNT,
        "path_pairs": 3 * 6 * COUNT,
        "trajectory": 3 * 3 * 4 * COUNT,
        "trajectory_metric": 4 * COUNT,
        "masks": 16 * 2 * 2 * COUNT,
        "mask_units": 16 * 4,
    }
    values = ("effect", "receiver", "donor", "attributed", "synergy", "value", "metric", "loss")
    values += ("score", "rank")
    for name, count in expected.items():
        rows = table(folder, name)
        assert len(rows) == count, name
        keys = [tuple(v for k, v in row.items() if k not in values) for row in rows]
        assert len(set(keys)) == count, name


def test_values_are_those_that_were_found(saved: tuple[Findings, Path]) -> None:
    found, folder = saved
    rows = table(folder, "patching")
    for direction, carried in found.carried.items():
        moved = carried.moved
        for i, part in enumerate(moved.parts):
            here = {"direction": direction, "part": str(part)}
            np.testing.assert_array_equal(of(rows, "effect", **here), moved.effects[i])
            np.testing.assert_array_equal(of(rows, "attributed", **here), moved.attributed[i])
            np.testing.assert_array_equal(of(rows, "receiver", **here), moved.receiver)
            np.testing.assert_array_equal(of(rows, "donor", **here), moved.donor)
            place = {"kind": part.kind, "layer": part.layer, "index": part.index}
            np.testing.assert_array_equal(
                of(rows, "effect", direction=direction, **place), moved.effects[i]
            )
    carried = found.carried["sufficiency"]
    one = {"direction": "sufficiency", "kind": "first", "size": 2, "draw": 0}
    effects = of(table(folder, "sets"), "effect", **one, parts="output.0.1 mlp.1")
    np.testing.assert_array_equal(effects, carried.set_effects[2])
    pair = {"direction": "sufficiency", "parts": "output.0.1 value.1.1"}
    gained = of(table(folder, "synergy"), "synergy", **pair)
    np.testing.assert_array_equal(gained, carried.synergies[1])


def test_contributions_and_attention_are_those_that_were_found(
    saved: tuple[Findings, Path],
) -> None:
    found, folder = saved
    rows = table(folder, "direct")
    for model in (BEFORE, AFTER):
        direct = found.direct[model]
        for name in ("embedding", "bias", "entropy"):
            values = of(rows, "value", model=model, part=name, layer=None, head=None)
            np.testing.assert_array_equal(values, getattr(direct, name))
        for name, expected in (("mlp", direct.mlps), ("attention_bias", direct.attention_bias)):
            values = of(rows, "value", model=model, part=name, layer=1)
            np.testing.assert_array_equal(values, expected[1])
        values = of(rows, "value", model=model, part="head", layer=1, head=2)
        np.testing.assert_array_equal(values, direct.heads[1, 2])
    rows = table(folder, "attention")
    place = {"destination": "last", "layer": 1, "head": 3}
    for number, source in enumerate(("fact", "distractor")):
        values = of(rows, "value", model=AFTER, source=source, **place)  # null: NaN here
        np.testing.assert_array_equal(values, found.attention[AFTER].values[number, 1, 3])
    lacking = [row for row in rows if row["value"] is None]
    assert {row["item"] for row in lacking} == {ITEMS[3]}
    rows = table(folder, "logit_lens")
    for name, expected_lens in found.logit_lens[AFTER].values.items():
        values = of(rows, "value", model=AFTER, measure=name, stream=1)
        np.testing.assert_array_equal(values, expected_lens[1])


def test_delta_scaling_and_its_text_are_those_that_were_found(saved: tuple[Findings, Path]) -> None:
    found, folder = saved
    assert found.delta_scaling is not None
    metric, loss = table(folder, "surgery"), table(folder, "text")
    for number, arm in enumerate(found.delta_scaling.arms):
        here = {"arm": arm.kind, "layer": arm.layer, "module": arm.module, "amount": arm.amount}
        np.testing.assert_array_equal(
            of(metric, "metric", **here), found.delta_scaling.metric[number]
        )
        np.testing.assert_array_equal(of(loss, "loss", **here), found.delta_scaling.losses[number])


def test_records_are_beside_the_tables(saved: tuple[Findings, Path]) -> None:
    found, folder = saved
    assert found.record is not None
    assert record_file(folder, found.record.step).is_file()
    assert record_file(folder, -1).is_file()


def test_what_was_not_asked_for_leaves_no_file(tmp_path: Path) -> None:
    metric = np.zeros(COUNT)
    save_all(Findings("tuned", ITEMS, {BEFORE: metric, AFTER: metric}), tmp_path)
    assert not list(tmp_path.iterdir())
