"""Make the circuit card of a small model that sorts: docs/results/circuit-cards.md.

    python benchmarks/sorter_card.py --model FOLDER --out card.json

The model continues six numbers (tokens 0, 1 and 2) with the same, sorted. A clean list and a
corrupted one differ in one number, and are continued up to the place where the sorted lists differ;
the metric is the difference of the two answers' logits there. Every line of the card is tested:

- ablation: the same clean lists, corrupted by another list whose sorted numbers agree up to that
  place and differ there.
- specific: lists whose answers differ at the first place, the smallest number; those of the circuit
  differ later.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from sumcirc.circuits.card.lines import Card
from sumcirc.circuits.card.making import make_card
from sumcirc.circuits.card.other_tasks import OtherPairs
from sumcirc.circuits.discovery import judge, score_edges
from sumcirc.circuits.inputs.example_pairs import ExamplePair
from sumcirc.circuits.tasks import make_tasks
from sumcirc.reporting.tables import print_tables
from sumcirc.reporting.views.circuit_card import card_table
from sumcirc.runtime.progress import counted
from sumcirc.schema import CardOptions, CircuitMetric, CircuitOptions
from sumcirc.storage.writing import write_json

NUMBERS, SYMBOLS = 6, 3

List = NDArray[np.int64]


def changed(numbers: List, random: np.random.Generator) -> List:
    """Return the list with one number raised or lowered by 1, if it then is one of the symbols."""
    other = numbers.copy()
    other[random.integers(NUMBERS)] += random.choice([-1, 1])
    return np.clip(other, 0, SYMBOLS - 1)


def another(numbers: List, random: np.random.Generator) -> List:
    """Return any other list."""
    return random.integers(SYMBOLS, size=NUMBERS)


def place_of(numbers: List, other: List) -> int | None:
    """Return the first place at which the sorted lists differ; None if there is none."""
    places = np.flatnonzero(np.sort(numbers) != np.sort(other))
    return int(places[0]) if len(places) else None


def pair(name: str, corruption: str, numbers: List, other: List, place: int) -> ExamplePair:
    """Return the two lists with their sorted numbers up to a place, and the answers there."""
    one, two = np.sort(numbers).tolist(), np.sort(other).tolist()
    prompts = [[*numbers.tolist(), *one[:place]], [*other.tolist(), *one[:place]]]
    return ExamplePair.of(name, corruption, prompts, {}, [one[place]], [two[place]])


def pairs(
    count: int, wanted: Callable[[int], bool], name: str, seed: int
) -> tuple[list[ExamplePair], list[ExamplePair]]:
    """Return pairs by one changed number, and pairs of the same lists with another list.

    Args:
        count: number of pairs of each.
        wanted: which places of the first difference are.
        name: beginning of their names.
        seed: seed of the draws.
    """
    random = np.random.default_rng(seed)
    found: tuple[list[ExamplePair], list[ExamplePair]] = ([], [])
    seen: set[bytes] = set()
    while len(found[0]) < count:
        numbers = random.integers(SYMBOLS, size=NUMBERS)
        other = changed(numbers, random)
        place = place_of(numbers, other)
        if place is None or not wanted(place) or numbers.tobytes() in seen:
            continue
        third = other
        while place_of(numbers, third) != place or np.array_equal(third, other):
            third = another(numbers, random)
        seen.add(numbers.tobytes())
        id = f"{name}-{len(found[0])}"
        found[0].append(pair(id, "changed", numbers, other, place))
        found[1].append(pair(id, "another", numbers, third, place))
    return found


def card(model: Any, count: int, options: CircuitOptions, tests: CardOptions) -> Card:
    """Find the circuit of a sorting model and test it.

    Args:
        model: the model.
        count: number of pairs that choose edges and judge.
        options: settings of the circuit.
        tests: settings of the card.
    """
    own, stressed = pairs(count, lambda place: place > 0, "later", 0)
    first, _ = pairs(count, lambda place: place == 0, "first", 1)
    split = make_tasks(model, own, options)
    with counted("attribute", len(split.task.pairs)) as advance:
        scores = score_edges(model, split.task, options, advance)
    found = judge(split.task, scores, options, held_out=split.held_out)
    others = {
        "ablation": OtherPairs("another", stressed),
        "specific": OtherPairs("the smallest number", first),
    }
    sides = split.task, split.held_out
    return make_card(model, *sides, found, options, tests, others=others, counted=counted)


def main() -> None:
    """Make the card, print it and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--pairs", type=int, default=48, help="half of them choose edges")
    parser.add_argument("--size", type=float, default=0.5, help="share of edges in the circuit")
    parser.add_argument("--lines", default="full", help="as card.lines, with commas")
    parser.add_argument("--out", type=Path, required=True, help="file for the card")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float64).eval()
    options = CircuitOptions(
        metric=CircuitMetric.logit_difference,
        documents=given.pairs,
        size=given.size,
        sizes=[0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0],
        batch_size=64,
    )
    made = card(model, given.pairs, options, CardOptions(lines=given.lines.split(",")))
    print_tables(card_table(made.as_json(), f"card of {Path(given.model).name}"))
    write_json(given.out, made.as_json())


if __name__ == "__main__":
    main()
