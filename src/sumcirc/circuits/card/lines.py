"""The lines of a circuit card: what was measured, the bar it has to reach, and the verdict.

A line passes only if it is shown to reach its bar: where there is an interval, the whole interval
has to lie on the bar's side. Otherwise it fails, also where more documents might let it pass. A
line that was not measured says why, what measures it, and what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sumcirc.circuits.patching.faithfulness_results import REACHED
from sumcirc.statistics import MIN_DOCUMENTS, Interval, bracketed
from sumcirc.storage.writing import plain_numbers

PASS, FAIL, NOT_TESTED = "pass", "fail", "not tested"

LEVEL = REACHED  # of faithfulness; what carries as much counts as carrying the behaviour
REST = 0.1  # most faithfulness of all other edges
NEEDED = 0.9  # least share of edges whose removal matters
STABLE, RESAMPLES = 0.8, 100  # least Jaccard index, and number of resamples
CONVERGED = 0.9  # least Jaccard index of the circuits by m and by 4 m steps
AGREEING = 0.7  # least rank correlation, half of the ranks' variance


@dataclass(frozen=True)
class Bar:
    """What a line's number has to reach.

    Attributes:
        number: what the number is.
        text: the bar.
        source: where the test and the bar come from.
    """

    number: str
    text: str
    source: str


BARS: dict[str, Bar] = {
    "faithful": Bar(
        "faithfulness",
        f"{LEVEL:g} to {2 - LEVEL:g}, and above matched random circuits",
        "faithfulness of 2403.17806 and 2504.13151; level and random circuits of this package",
    ),
    "complete": Bar(
        "faithfulness of all other edges",
        f"at most {REST:g}",
        "2211.00593, and the independence test of 2410.13032; level of this package",
    ),
    "minimal": Bar(
        "share of edges whose removal matters",
        f"at least {NEEDED:g}",
        "2410.13032, which asks for all edges; share of this package",
    ),
    "stable": Bar(
        "Jaccard index between resamples",
        f"at least {STABLE:g}, {RESAMPLES} resamples or more",
        "2510.00845",
    ),
    "rival": Bar(
        "faithfulness of the best circuit without these edges",
        f"below {LEVEL:g} and below this circuit",
        "2605.12671; level of this package",
    ),
    "ablation": Bar(
        "faithfulness under another corruption",
        f"{LEVEL:g} to {2 - LEVEL:g}",
        "2407.08734; level as for faithful",
    ),
    "specific": Bar(
        "faithfulness above that of the other task's circuit",
        "above 0, kept alone and removed",
        "2605.08348",
    ),
    "converged": Bar(
        "Jaccard index of the circuits by m and 4 m steps",
        f"at least {CONVERGED:g}",
        "steps: 2609.25518; level of this package",
    ),
    "exact": Bar(
        "Spearman correlation of scores with patched edges",
        f"at least {AGREEING:g}",
        "2310.10348; level of this package (half of the ranks' variance)",
    ),
}


@dataclass(frozen=True)
class Line:
    """One line of a card.

    Attributes:
        name: name of the line, a key of `BARS`.
        status: `pass`, `fail` or `not tested`.
        number: the number with its interval over documents, if there is one; None if it wasn't
            measured.
        said: what was found; for a line that wasn't tested, why.
        setting: for a line that wasn't tested, the setting that tests it.
        passes: number of passes over one pair that the test takes or took beyond those of the
            circuit's own figures.
        details: further numbers, ready for JSON.
    """

    name: str
    status: str
    number: Interval | None
    said: str
    setting: str = ""
    passes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the line with its bar and its source, ready to be written as JSON."""
        bar = BARS[self.name]
        number = None if self.number is None else asdict(self.number)
        return {
            "name": self.name,
            "status": self.status,
            "measures": bar.number,
            "number": number,
            "bar": bar.text,
            "source": bar.source,
            "said": self.said,
            "setting": self.setting,
            "passes": self.passes,
            "details": dict(self.details),
        }


@dataclass(frozen=True)
class Card:
    """A circuit's card.

    Attributes:
        lines: the lines.
        identification: what the circuit is a circuit of: sentences by subject (`estimand`,
            `ablation`, `assumptions`).
    """

    lines: Sequence[Line]
    identification: Mapping[str, Sequence[str]]

    def __getitem__(self, name: str) -> Line:
        """Return the line of a name."""
        return next(line for line in self.lines if line.name == name)

    @property
    def counts(self) -> dict[str, int]:
        """The number of lines that passed, that failed and that weren't tested."""
        found = [line.status for line in self.lines]
        return {
            "passed": found.count(PASS),
            "failed": found.count(FAIL),
            "not_tested": found.count(NOT_TESTED),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the content of `circuits/card.json`."""
        return plain_numbers(
            {
                **self.counts,
                "lines": [line.as_json() for line in self.lines],
                "identification": {name: list(said) for name, said in self.identification.items()},
            }
        )


def verdict(passed: bool) -> str:
    """Return the status of a tested line."""
    return PASS if passed else FAIL


def untested(name: str, why: str, setting: str = "", passes: int = 0) -> Line:
    """Return a line that was not tested.

    Args:
        name: name of the line.
        why: the reason.
        setting: the setting that tests it.
        passes: number of passes over one pair that the test would take.
    """
    return Line(name, NOT_TESTED, None, why, setting, passes)


def told(interval: Interval) -> str:
    """Return a number with its interval as text."""
    return bracketed(interval.mean, interval.low, interval.high, "z.2f")  # z: no -0.00


def enough(pairs: int) -> bool:
    """Return whether there are enough pairs for an interval, without which nothing is tested."""
    return pairs >= MIN_DOCUMENTS
