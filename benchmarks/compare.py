"""What moving every part of one model into another costs beside plain forward passes.

    python benchmarks/compare.py [--quick] [--device cuda]

GPT-2 small's shape, two models that differ everywhere, 144 heads and 12 MLPs, each moved alone:
documents (4 of 128 tokens, 32 positions read) at the positions that are read and at all, and
prompts (16 of 24 tokens, the last position read) at the last. As many plain forward passes of the
same batch, with the read rows unembedded and scored, are the other side. On ours is all that it
takes: the donor's run, which is written to disk, and the receiver's own, then the patched passes,
one copy of the batch in each, or as many as 4 GB hold. Direct attribution of every head and MLP is
set against one plain pass.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from measurement import Lap, parser, prepare, ratio, timed, write_result
from subjects import GPT2_SMALL, TINY, Shape, load

from sumcirc.compare.direct_attribution import direct_attribution
from sumcirc.compare.items.item_set import ItemSet
from sumcirc.compare.patching.components import MLP, OUTPUT, components
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.patching_scores import PatchingSetup
from sumcirc.data.examples import ALL, LAST, NONE, READ, TokenExample
from sumcirc.models.activations.hooked_model import HookedModel

CLAIM = (
    "patching every head and MLP across models takes at most 1.1 of as many plain forward passes"
    " one at a time, fewer than those with several copies in a pass; direct attribution at most 1.3"
    " of one"
)
# name: items, tokens, read rows, where parts are moved
CASES = {
    "documents": (4, 128, 32, READ),
    "documents_all": (4, 128, 32, ALL),
    "prompts": (16, 24, 1, LAST),
}
MEMORY = {"single": 1, "batched": 4 * 10**9}  # bytes: one copy always fits
AT_MOST = {"single": 1.1, "batched": 1.0, "direct": 1.3}
SHARE = 12  # of the plain passes one twelfth is run on either side of ours


class Case:
    """One batch of random tokens, and both sides on it."""

    def __init__(self, before: Any, after: Any, name: str) -> None:
        self.before, self.after = HookedModel(before), HookedModel(after)
        self.count, length, rows, self.positions = CASES[name]
        draw = np.random.default_rng(0)
        vocabulary = self.before.shape.vocabulary
        found = []
        for number in range(self.count):
            ids = draw.integers(vocabulary, size=length)
            good, bad = np.full((2, length), NONE)
            good[-rows:] = draw.integers(vocabulary, size=rows)
            if self.positions == LAST:
                bad[-rows:] = draw.integers(vocabulary, size=rows)
            found.append(TokenExample(str(number), ids, good, bad))
        self.items = ItemSet(found)
        self.moved = [[part] for part in components(self.before.shape, [OUTPUT, MLP])]

    def patching(self, memory: int) -> None:
        """Every part moved alone, all of it."""
        with tempfile.TemporaryDirectory() as folder:
            donor = Donor.record(self.after, self.items, self.count, [self.positions], Path(folder))
            across = PatchingSetup(
                self.before, donor, self.items, self.count, self.positions, None, memory
            )
            across.together(self.moved)

    def plain(self, passes: int = 1) -> None:
        """Plain passes with the metric."""
        for _ in range(passes):
            self.items.values(self.before, self.count)

    def direct(self) -> None:
        """Contributions of every head and MLP."""
        direct_attribution(self.before, self.items, self.count)


def compare(
    device: str, ours: Callable[[], None], plain: Callable[[], None], rounds: int, plain_is: float
) -> dict[str, Any]:
    """Our side between two plain ones, in turns; `plain_is` of a plain side is the whole of it."""
    sides: tuple[list[Lap], list[Lap]] = [], []
    for _ in range(rounds):
        around = [timed(device, plain)[1]]
        sides[0].append(timed(device, ours)[1])
        around.append(timed(device, plain)[1])
        wall, cpu = (
            plain_is * sum(getattr(lap, clock) for lap in around) / 2 for clock in ("wall", "cpu")
        )
        sides[1].append(Lap(wall, cpu))
    fastest = [min(lap.wall for lap in laps) for laps in sides]
    return {
        **ratio(*sides),
        "seconds": fastest[0],
        "seconds_plain": fastest[1],
        "rounds": rounds,
    }


def measure(
    before: Any, after: Any, shape: Shape, device: str, rounds: int
) -> dict[str, dict[str, Any]]:
    """The figures of every case."""
    figures: dict[str, dict[str, Any]] = {}
    for name in CASES:
        case = Case(before, after, name)
        case.plain()  # what a process takes once
        case.direct()
        parts = len(case.moved)
        passes = max(1, parts // SHARE)
        for kind, memory in MEMORY.items():
            figures[f"{kind}_{name}"] = compare(
                device,
                lambda c=case, m=memory: c.patching(m),
                lambda c=case, n=passes: c.plain(n),
                rounds,
                parts / passes,
            )
            figures[f"{kind}_{name}"]["parts"] = parts
        if case.positions != ALL:
            figures[f"direct_{name}"] = compare(device, case.direct, case.plain, 5 * rounds, 1)
    for name, figure in figures.items():
        figure["at_most"] = AT_MOST[name.split("_")[0]]
        figure["shape"] = asdict(shape)
    return figures


def main() -> None:
    """Measure the ratios, print them, and write them to a file."""
    options = parser(__doc__).parse_args()
    prepare(options)
    shape = TINY if options.quick else GPT2_SMALL
    before, after = (load(shape, options.device, seed).eval() for seed in (1, 2))
    figures = measure(before, after, shape, options.device, 1 if options.quick else 3)
    write_result("compare", options, CLAIM, None, figures)


if __name__ == "__main__":
    main()
