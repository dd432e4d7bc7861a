"""The numbers of docs/results/path.md on the trajectory and on pairs are those of its records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from docs.record import RECORDS

PAGE = (RECORDS.parent / "path.md").read_text()
RUNS = {"full": "full fine-tuning", "lora": "LoRA, rank 16"}
KINDS = ("shapley", "add", "remove")
GRAINS = ("layer", "module", "head")
LEAST, MOST = 4, 3  # listed pairs of a run: those that most stand in for, and need, each other


@cache
def record(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / "path" / f"trajectory-{name}.json").read_text())


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def percent(ends: Mapping[str, float], star: bool = False) -> str:
    mean, low, high = (100 * ends[end] for end in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]{'*' if star else ''}"


def number(ends: Mapping[str, float]) -> str:
    mean, low, high = (ends[end] for end in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def error_row(name: str) -> str:
    found, gain = record(name)["trajectory"], record(name)["metric"]["difference"]
    points = sum(segment["evaluations"] for segment in found["segments"])
    errors = [f"{100 * found['errors'][key]:.2f}" for key in ("total", "document", "unit")]
    return line([RUNS[name], number(gain), str(len(found["segments"])), str(points), *errors])


def unit_rows(name: str) -> list[str]:
    return [
        line(
            [
                row["unit"],
                percent(row),
                percent(row["path"]),
                percent(row["difference"], row["difference"]["significant"]),
            ]
        )
        for row in record(name)["trajectory"]["units"]["layer"]
    ]


def segment_rows(name: str) -> list[str]:
    found = record(name)["trajectory"]
    rows = []
    for k, segment in enumerate(found["segments"]):
        shares = [row["segments"][k] for row in found["units"]["layer"]]
        cells = [f"{100 * one['mean']:.1f}{'*' * one['significant']}" for one in shares]
        gain = f"{100 * segment['gain']['mean']:.1f}"
        rows.append(line([f"{segment['start']} to {segment['end']}", gain, *cells]))
    return rows


def checkpoint_rows(name: str) -> list[str]:
    return [
        line(
            [
                str(row["step"]),
                percent(row["gain"]),
                number(row["items"]),
                *(number(row["ranking"][grain]) for grain in GRAINS),
            ]
        )
        for row in record(name)["trajectory"]["checkpoints"]
    ]


def straight_rows(name: str) -> list[str]:
    found = record(name)["trajectory"]
    return [
        line(
            [
                RUNS[name],
                f"{grain}s",
                f"{100 * found['straight'][grain]['moved']:.1f}",
                number(found["straight"][grain]["ranking"]),
                f"{100 * found['straight'][grain]['lowering']:.0f}",
                str(found["agrees_from"][grain] or "-"),
            ]
        )
        for grain in GRAINS
    ]


def count_rows(name: str) -> list[str]:
    pairs = record(name)["effects"]["interactions"]
    rows = []
    for kind, words in zip(KINDS, ("Shapley", "alone", "on removal"), strict=True):
        sure = [pair[kind]["mean"] for pair in pairs if pair[kind]["significant"]]
        negative = sum(mean < 0 for mean in sure)
        rows.append(
            line([RUNS[name], words, str(len(pairs)), str(negative), str(len(sure) - negative)])
        )
    return rows


def pair_rows(name: str) -> list[str]:
    pairs = record(name)["effects"]["interactions"]
    ordered = sorted(pairs, key=lambda pair: pair["shapley"]["mean"])
    return [
        line(
            [
                " and ".join(pair["units"]),
                *(percent(pair[kind], pair[kind]["significant"]) for kind in KINDS),
            ]
        )
        for pair in (*ordered[:LEAST], *ordered[-MOST:])
    ]


@pytest.mark.parametrize("name", RUNS)
def test_tables_state_their_records(name: str) -> None:
    lines = PAGE.splitlines()
    makers = (unit_rows, segment_rows, checkpoint_rows, straight_rows, count_rows, pair_rows)
    for row in [error_row(name), *(row for make in makers for row in make(name))]:
        assert row in lines, row


@pytest.mark.parametrize("name", RUNS)
def test_what_was_found_has_converged(name: str) -> None:
    found = record(name)
    assert found["trajectory"]["converged"]
    assert found["effects"]["exact"]
    total = sum(row["mean"] for row in found["trajectory"]["units"]["layer"])
    assert total == pytest.approx(1, abs=0.01)


def test_the_text_states_the_records() -> None:
    found = record("full")["trajectory"]
    pairs = {frozenset(pair["units"]): pair for pair in record("full")["effects"]["interactions"]}

    def of(kind: str, one: str, other: str) -> str:
        return f"{100 * pairs[frozenset((one, other))][kind]['mean']:.1f}"

    units = {row["unit"]: row for row in found["units"]["layer"]}
    first, layers = found["checkpoints"][0], found["straight"]["layer"]
    assert not any(one["lowering"] for one in found["straight"].values())
    assert [row["unit"] for row in found["units"]["layer"] if row["difference"]["significant"]] == [
        *("layer 0", "final")
    ]
    assert found["agrees_from"]["layer"] == 200
    assert found["agrees_from"]["module"] == found["agrees_from"]["head"] == 50
    inner = [pair for names, pair in pairs.items() if "final" not in names]
    alone = [pair["add"] for pair in inner if pair["add"]["significant"]]
    assert all(one["mean"] < 0 for one in alone)
    later = {f"layer {layer}" for layer in range(1, 6)}
    among = [pair for names, pair in pairs.items() if names <= later]
    lost = [-100 * pair["add"]["mean"] for pair in among]
    removed = max(abs(100 * pair["remove"]["mean"]) for pair in among)
    least = sorted(pairs, key=lambda names: pairs[names]["remove"]["mean"])[:2]
    assert least == [frozenset(("embedding", f"layer {layer}")) for layer in (0, 1)]
    lora = record("lora")["trajectory"]
    slow = {row["unit"]: row for row in lora["units"]["layer"]}
    start = lora["checkpoints"][0]
    against = lora["straight"]
    assert against["layer"]["lowering"] == against["module"]["lowering"] == 0
    assert [row["unit"] for row in slow.values() if row["difference"]["significant"]] == [
        *("layer 0", "layer 4", "layer 5")
    ]
    assert lora["agrees_from"] == {"layer": None, "module": 100, "head": 100}
    low_rank = record("lora")["effects"]["interactions"]
    tested = {
        kind: [pair[kind] for pair in low_rank if pair[kind]["significant"]] for kind in KINDS
    }
    assert all(one["mean"] < 0 for kind in KINDS[1:] for one in tested[kind])
    gains = [one["segments"][0]["gain"]["mean"] for one in (found, lora)]
    moved = [one["straight"]["layer"]["moved"] for one in (found, lora)]

    def both(row: Mapping[str, Any]) -> tuple[str, str]:
        return f"{100 * row['path']['mean']:.1f}", f"{100 * row['mean']:.1f}"

    (line0, path0), (line4, path4), (line5, path5) = (
        both(slow[f"layer {layer}"]) for layer in (0, 4, 5)
    )
    first_line, first_path = both(units["layer 0"])
    page = " ".join(PAGE.split())
    for words in (
        f"{100 * gains[0]:.0f} % of full fine-tuning's, {100 * gains[1]:.0f} % of LoRA's",
        f"at most {100 * against['head']['lowering']:.1f} % by head",
        f"{first_line} % against {first_path} % over the trajectory",
        f"{line0} % against {path0} % in LoRA",
        f"({line4} and {line5} % against {path4} and {path5} %)",
        f"have {100 * moved[0]:.0f} and {100 * moved[1]:.0f} % of the gain",
        f"don't agree** ({number(lora['straight']['layer']['ranking'])})",
        f"of modules do ({lora['straight']['module']['ranking']['mean']:.2f})",
        f"({layers['ranking']['mean']:.2f} over layers)",
        f"final one ({number(start['ranking']['layer'])})",
        f"of {number(first['items'])} and {number(start['items'])}",
        f"{len(alone)} of the {len(inner)} pairs without the last norm in full fine-tuning and"
        f" {len(tested['add'])} of {len(low_rank)} in LoRA",
        f"In LoRA {len(tested['remove'])} of {len(low_rank)} pairs interact on removal",
        f"recover {min(lost):.0f} to {max(lost):.0f} % of the gain less",
        f"by at most {removed:.1f} % among layers 1 to 5",
        f"layer 0 ({of('remove', 'embedding', 'layer 0')[1:]} % of the gain more",
        f"or layer 1 ({of('remove', 'embedding', 'layer 1')[1:]} %)",
        f"alone ({of('add', 'layer 0', 'layer 4')} and {of('add', 'layer 0', 'layer 5')} %)",
        f"({of('remove', 'layer 0', 'layer 4')} and {of('remove', 'layer 0', 'layer 5')} %)",
        f"index ({of('shapley', 'layer 0', 'layer 1')} %",
    ):
        assert words in page, words


def test_the_readme_states_when_it_is_learned() -> None:
    page = (RECORDS.parents[2] / "README.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| When is it learned?")]
    full, lora = (record(name)["trajectory"] for name in ("full", "lora"))
    first = [100 * found["segments"][0]["gain"]["mean"] for found in (full, lora)]
    assert [found["segments"][0]["end"] for found in (full, lora)] == [50, 50]
    assert f"{first[0]:.0f} % of full fine-tuning's gain and {first[1]:.0f} % of LoRA's" in row
    settled = [found["agrees_from"]["module"] for found in (full, lora)]
    assert f"modules is settled at step {settled[0]} and {settled[1]}" in row
    assert lora["agrees_from"]["layer"] is None
