"""Tables and picture of benchmarks/wrong_facts.py, from its record.

python benchmarks/wrong_facts_tables.py RECORD [--figure NAME]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.figures.views import draw
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.reporting.kinds import Dot, Dots, View
from sumcirc.statistics import Interval, bootstrap_difference, bootstrap_mean, bracketed
from sumcirc.statistics.seeds import Estimate, crossed_mean
from sumcirc.wire import WireArticle, articles

Values = NDArray[np.float64]
Places = NDArray[np.int64]

TUNED, BEFORE = "tuned", "before"
NAMED = ("path", "errors", "opposite")
RIGHT, WRONG = "right", "wrong"
FACTS = 4  # of each event
RANDOM = "random"
HEADINGS = (
    *("without", "right", "wrong", "change of right", "change of wrong"),
    *("right minus random", "wrong minus random", "random sets with no more wrong"),
)
GROUPED = ("without", "right, errs", "wrong, errs", "right, doesn't", "wrong, doesn't")


def matched(told: Sequence[WireArticle], errs: NDArray[np.bool_]) -> tuple[Places, Places]:
    """Pair articles where the model errs with articles where it doesn't.

    Args:
        told: the articles.
        errs: [articles] whether the model's summary states a wrong fact.

    Returns:
        [pairs] indices of the articles where it errs, and of their partners: articles of the same
        kind of event before others, then those of the nearest length; each is used once.
    """
    free = set(np.flatnonzero(~errs).tolist())
    pairs = []
    for one in np.flatnonzero(errs).tolist():
        if not free:
            break

        def distance(other: int, one: int = one) -> tuple[bool, int, int]:
            lengths = (len(told[i].document) for i in (one, other))
            return told[one].kind != told[other].kind, abs(next(lengths) - next(lengths)), other

        best = min(free, key=distance)
        free.remove(best)
        pairs.append((one, best))
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def shares(record: Mapping[str, Any], name: str, which: str) -> Values:
    """Return [articles] share of the facts in the summaries without one set of units.

    Args:
        record: the record.
        name: name of the set, such as `path`, or `tuned` where no unit was removed.
        which: `right` or `wrong`.
    """
    return np.array(record["written"][name][which]) / FACTS


def random_shares(record: Mapping[str, Any], which: str) -> Values:
    """Return [random sets, articles] shares of facts without random units."""
    names = [f"{RANDOM} {i}" for i in range(len(record["random"]))]
    return np.stack([shares(record, name, which) for name in names])


def change(
    record: Mapping[str, Any], name: str, which: str, among: Places | None = None
) -> Interval | Estimate:
    """Return the change of a share of facts from the model with its whole change.

    Args:
        record: the record.
        name: name of the set, or `random` for the mean over random sets.
        which: `right` or `wrong`.
        among: indices of the articles to look at; None for all.
    """
    articles_of = slice(None) if among is None else among
    whole = shares(record, TUNED, which)[articles_of]
    if name == RANDOM:
        return crossed_mean(random_shares(record, which)[:, articles_of] - whole)
    return bootstrap_difference(shares(record, name, which)[articles_of], whole)


def beside_random(record: Mapping[str, Any], name: str, which: str) -> Estimate:
    """Return a share of facts minus that without random units, over articles and random sets."""
    return crossed_mean(shares(record, name, which) - random_shares(record, which))


def percent(found: Interval | Estimate) -> str:
    """Return a mean with its interval, times 100."""
    return bracketed(100 * found.mean, 100 * found.low, 100 * found.high, ".1f")


def table(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table of all sets."""
    rows = []
    titles = {BEFORE: "the whole change", TUNED: "nothing"} | {name: name for name in NAMED}
    others = random_shares(record, WRONG).mean(1)
    for name, title in titles.items():
        means = [percent(bootstrap_mean(shares(record, name, which))) for which in (RIGHT, WRONG)]
        rest = ["-"] * 5
        if name in NAMED:
            low = int((others <= shares(record, name, WRONG).mean()).sum())
            rest = [percent(change(record, name, which)) for which in (RIGHT, WRONG)]
            rest += [percent(beside_random(record, name, which)) for which in (RIGHT, WRONG)]
            rest += [f"{low} of {len(others)}"]
        rows.append([title, *means, *rest])
    means = [f"{100 * random_shares(record, which).mean():.1f}" for which in (RIGHT, WRONG)]
    moved = [percent(change(record, RANDOM, which)) for which in (RIGHT, WRONG)]
    rows.append([f"{len(others)} random sets", *means, *moved, "-", "-", "-"])
    return lines(HEADINGS, rows)


def groups(record: Mapping[str, Any]) -> tuple[Places, Places]:
    """Return indices of the articles where the model errs, and of their partners; see `matched`."""
    told = list(articles("test", len(record["articles"])))
    return matched(told, shares(record, TUNED, WRONG) > 0)


def grouped_table(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table of changes where the model errs, and where it doesn't."""
    both = groups(record)
    rows = [
        [
            name,
            *(percent(change(record, name, which, at)) for at in both for which in (RIGHT, WRONG)),
        ]
        for name in (*NAMED, RANDOM)
    ]
    return lines(GROUPED, rows)


def lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown."""
    start = [list(headings), ["---", *["---:"] * (len(headings) - 1)]]
    return [f"| {' | '.join(row)} |" for row in [*start, *rows]]


def layer_table(folder: Path) -> list[str]:
    """Return the lines of the table of what adapting a layer adds to right and to wrong facts.

    Args:
        folder: a landscape, in which every layer is in half of the sets.
    """
    landscape, _ = read_landscape(folder)
    by_score = {
        score: {int(one.name): one for one in Analysis(landscape.measured(score)).effects}
        for score in ("facts", "facts_wrong")
    }
    rows = []
    for layer, right in sorted(by_score["facts"].items()):
        wrong = by_score["facts_wrong"][layer]  # of minus wrong facts, so that more is better
        ends = (right.effect, right.low, right.high), (-wrong.effect, -wrong.high, -wrong.low)
        cells = [bracketed(100 * mean, 100 * low, 100 * high, ".1f") for mean, low, high in ends]
        rows.append([str(layer), *cells])
    return lines(("layer", "right facts", "wrong facts"), rows)


def error_auc(record: Mapping[str, Any]) -> float:
    """Return how well the metric on references tells where the model errs, as area under the ROC.

    It is the probability that an article whose summary states a wrong fact has the larger metric.
    """
    place = {name: i for i, name in enumerate(record["articles"])}
    errs = shares(record, TUNED, WRONG)[[place[one] for one in record["metric"]["articles"]]] > 0
    values = np.array(record["metric"]["values"])
    above = values[errs][:, None] - values[~errs][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def picture(record: Mapping[str, Any]) -> View:
    """Return a view of the changes of right and of wrong facts, of named and of random units."""
    moved = [
        100 * (random_shares(record, which) - shares(record, TUNED, which)).mean(1)
        for which in (RIGHT, WRONG)
    ]
    dots = [
        Dot(f"{RANDOM} {i}", x, y, filled=False)
        for i, (x, y) in enumerate(zip(*(one.tolist() for one in moved), strict=True))
    ]
    for name in NAMED:
        right, wrong = (change(record, name, which) for which in (RIGHT, WRONG))
        x, y = 100 * right.mean, 100 * wrong.mean
        dots.append(Dot(name, x, y, 100 * wrong.low, 100 * wrong.high))
    panel = Dots(
        "change of right facts, points",
        "change of wrong facts, points",
        dots,
        named=frozenset(NAMED),
    )
    return View(
        "Facts in summaries without some units of the change",
        [[panel]],
        note="hollow: random units, as many of each kind",
        columns=("units", "right", "wrong", "low", "high"),
        rows=[(dot.name, dot.x, dot.y, dot.low, dot.high) for dot in dots],
    )


def main() -> None:
    """Print the tables of a record, and draw its picture."""
    command = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    command.add_argument("record", type=Path)
    command.add_argument("--figure", type=Path, help="draw the picture to this path")
    command.add_argument("--landscape", type=Path, help="folder of a landscape")
    options = command.parse_args()
    record = json.loads(options.record.read_text())
    pairs = groups(record)[0]
    print("\n".join(table(record)))
    print(f"\n{len(pairs)} pairs; AUC of the metric: {error_auc(record):.2f}\n")
    print("\n".join(grouped_table(record)))
    if options.landscape is not None:
        print("\n" + "\n".join(layer_table(options.landscape)))
    if options.figure is not None:
        draw(picture(record), options.figure)


if __name__ == "__main__":
    main()
