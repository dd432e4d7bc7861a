"""Which part of a change makes things up: units removed while summaries are written.

    python benchmarks/wrong_facts.py --before tiny --after RUN_DIR --threads 1 --name lora

Units of the change (heads and groups of neurons) are named on articles of the wire's validation
split, a share of the heads and of the groups each:

    path      largest path scores of the metric `wrong_fact` (wrong event's fact - right one)
    errors    path score on articles whose summary states a wrong fact, minus that on matched ones
              whose summary doesn't
    opposite  smallest path scores: units that lower the metric

On articles of the test split the model writes summaries with the change of the named units removed,
and with that of random units removed, as many of each kind. Counted are the right facts of each
summary and the wrong ones (those of the article's second event). Articles where the model errs are
paired with articles where it doesn't: of the same kind of event where there are any left, and of
the nearest length.

The record holds numbers and ids, no texts; `wrong_facts_tables.py` computes tables and picture from
it. It is written after every set of units, and a run that was cut short goes on with the same
command.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measurement import parser, prepare, rounded
from numpy.typing import NDArray
from path_attribution import weights_of
from wrong_facts_tables import BEFORE, NAMED, RIGHT, TUNED, WRONG, matched, table

from sumcirc.compare.items.document_items import document_items, wire_wrong
from sumcirc.compare.items.item_set import WRONG_FACT, ItemSet
from sumcirc.compare.path.path_attribution import attribute_path
from sumcirc.compare.path.unit_change import unit_change
from sumcirc.compare.path.units import HEAD, NEURONS, Unit
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.data.wire_spans import wire_distractor, wire_salient
from sumcirc.evaluation.summaries import summarize
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.architectures import context_length
from sumcirc.models.model_reference import reference
from sumcirc.models.restoring import load_reference, load_tokenizer_of
from sumcirc.schema import EncodingConfig, GenerationConfig, Grain, PathOptions
from sumcirc.tracking.run_directory import git_commit
from sumcirc.wire import WireArticle, articles, facts_found, wrong_facts_found

Values = NDArray[np.float64]

GRAIN, KINDS = Grain.head, (HEAD, NEURONS)
OPTIONS = PathOptions(nodes=14, directions=0, effects=None)


@dataclass(frozen=True)
class Counted:
    """Number of right and of wrong facts in the summary of each article.

    Attributes:
        right: [articles] facts of the main event, of four.
        wrong: [articles] facts of the second event, of four.
    """

    right: NDArray[np.int64]
    wrong: NDArray[np.int64]

    def as_json(self) -> dict[str, list[int]]:
        """Return the counts as lists."""
        return {RIGHT: self.right.tolist(), WRONG: self.wrong.tolist()}


class Subject:
    """A fine-tuned model with its change, and what it writes about articles.

    Args:
        before: name of the model before fine-tuning.
        after: name of the fine-tuned model.
        batch: articles that are summarized at once.
    """

    def __init__(self, before: str, after: str, batch: int) -> None:
        base, tuned = reference(before, "--before"), reference(after, "--after")
        self.model: Any = load_reference(tuned)
        self.weights = weights_of(base, tuned)
        context = context_length(self.model.config)
        self.encoder = Encoder(load_tokenizer_of(tuned), EncodingConfig(), context)
        self.hooked = HookedModel(self.model)
        self.generation = GenerationConfig(max_new_tokens=40, batch_size=batch)

    def write(self, told: Sequence[WireArticle]) -> Counted:
        """Return the facts in the model's summaries of articles."""
        documents = [as_document(one) for one in told]
        texts = summarize(self.model, self.encoder, documents, self.generation)
        pairs = list(zip(told, texts, strict=True))
        return Counted(
            np.array([sum(facts_found(*pair).values()) for pair in pairs]),
            np.array([sum(wrong_facts_found(*pair).values()) for pair in pairs]),
        )

    def items(self, told: Sequence[WireArticle]) -> ItemSet:
        """Return the items of the metric, of the articles of which one can be made."""
        found, _ = document_items(
            self.encoder,
            [as_document(one) for one in told],
            None,
            wire_salient(0),
            wire_distractor(0),
            wire_wrong(self.encoder, 0),
        )
        return ItemSet(found, WRONG_FACT)


def as_document(article: WireArticle) -> Document:
    """Return an article as a document with its reference summary."""
    return Document(article.id, article.document, (article.summary,))


def largest(values: Values, units: Sequence[Unit], share: float) -> list[int]:
    """Return the units with the largest values, a share of each kind."""
    found = []
    for kind in KINDS:
        members = [i for i, unit in enumerate(units) if unit.part == kind]
        count = max(1, round(share * len(members)))
        found += sorted(members, key=lambda i: (-values[i], i))[:count]
    return sorted(found)


def drawn(units: Sequence[Unit], share: float, seed: int) -> list[int]:
    """Return as many random units of each kind as `largest` does."""
    draw = np.random.default_rng(seed)
    return largest(draw.random(len(units)), units, share)


def name_units(
    subject: Subject, told: Sequence[WireArticle], share: float
) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Choose the units of each name on some articles; see the top of this file.

    Returns:
        Indices of the units of each name, and what they were chosen by.
    """
    items = subject.items(told)
    path = attribute_path(subject.model, subject.weights, items, OPTIONS)
    scores, units = path.scores[GRAIN], path.units[GRAIN]
    by_id = {one.id: one for one in told}
    kept = [by_id[name] for name in items.ids]
    written = subject.write(kept)
    wrong, fine = matched(kept, written.wrong > 0)
    contrast = scores[:, wrong].mean(1) - scores[:, fine].mean(1)
    mean = scores.mean(1)
    by = {"path": mean, "errors": contrast, "opposite": -mean}
    details = {
        "articles": items.ids,
        "converged": path.converged,
        "before": path.before.tolist(),
        "after": path.after.tolist(),
        "written": written.as_json(),
        "pairs": [wrong.tolist(), fine.tolist()],
        "units": [unit.label for unit in units],
        "path": mean.tolist(),
        "errors": contrast.tolist(),
    }
    return {name: largest(by[name], units, share) for name in NAMED}, details


def written_without(
    subject: Subject,
    told: Sequence[WireArticle],
    sets: Mapping[str, Sequence[int]],
    done: Callable[[str, dict[str, list[int]]], None],
) -> None:
    """Count the facts in the summaries with the change of some units removed.

    Args:
        subject: the model.
        told: the articles.
        sets: indices of the units, by the set's name.
        done: called with the name and the counts after each set.
    """
    with unit_change(subject.hooked, subject.weights, OPTIONS.neuron_groups, 0) as change:
        for name, members in sets.items():
            kept = np.ones(len(change.units[GRAIN]))
            kept[list(members)] = 0.0
            change.scale_units(GRAIN, kept)
            done(name, subject.write(told).as_json())


def sets_of(
    named: Mapping[str, list[int]], random: Sequence[list[int]], count: int
) -> dict[str, list[int]]:
    """Return the units of every set, by its name.

    Args:
        named: indices of the named units, by their name.
        random: indices of the random units of each draw.
        count: number of all units of the change.
    """
    sets = {TUNED: list[int](), BEFORE: list(range(count))}
    return sets | dict(named) | {f"random {i}": members for i, members in enumerate(random)}


def begun(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Name units, and return the record without summaries."""
    told = list(articles("test", options.documents))
    choosing = list(articles("validation", options.choose))
    named, details = name_units(subject, choosing, options.share)
    labels = details["units"]
    with unit_change(subject.hooked, subject.weights, OPTIONS.neuron_groups, 0) as change:
        units = change.units[GRAIN]
    random = [drawn(units, options.share, seed) for seed in range(options.sets)]
    items = subject.items(told)
    return {
        "commit": git_commit(),
        "name": options.name,
        "share": options.share,
        "articles": [one.id for one in told],
        "metric": {"articles": items.ids, "values": items.values(subject.hooked, 16).tolist()},
        "chosen": details,
        "named": {name: [labels[i] for i in members] for name, members in named.items()},
        "random": [[labels[i] for i in members] for members in random],
        "written": {},
    }


def record_file(options: argparse.Namespace) -> Path:
    """Return the file of the record."""
    return options.results / f"wrong-facts-{options.name}.json"


def run(options: argparse.Namespace) -> None:
    """Name units, have summaries written, and write the record to its file."""
    file = record_file(options)

    def keep(record: dict[str, Any]) -> None:
        options.results.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rounded(record)) + "\n", encoding="utf-8")

    subject = Subject(options.before, options.after, options.batch)
    record = json.loads(file.read_text()) if file.exists() else begun(subject, options)
    keep(record)
    for name, members in record["named"].items():
        print(f"{name}: {', '.join(members)}", flush=True)
    index = {label: i for i, label in enumerate(record["chosen"]["units"])}
    named = {name: [index[label] for label in own] for name, own in record["named"].items()}
    random = [[index[label] for label in own] for own in record["random"]]
    sets = sets_of(named, random, len(index))
    told = list(articles("test", len(record["articles"])))

    def done(name: str, counts: dict[str, list[int]]) -> None:
        record["written"][name] = counts
        keep(record)
        means = (f"{which} {np.mean(counts[which]) / 4:.3f}" for which in (RIGHT, WRONG))
        print(f"{name}: {', '.join(means)}", flush=True)

    left = {name: one for name, one in sets.items() if name not in record["written"]}
    written_without(subject, told, left, done)


def main() -> None:
    """Run the study on one model, and write its record."""
    command = parser(__doc__)
    command.add_argument("--before", required=True, help="model before fine-tuning")
    command.add_argument("--after", required=True, help="run directory, adapter, folder or hub id")
    command.add_argument("--choose", type=int, default=64, help="articles that name the units")
    command.add_argument("--documents", type=int, default=160, help="articles that are summarized")
    command.add_argument("--share", type=float, default=1 / 6, help="share of the units of a kind")
    command.add_argument("--sets", type=int, default=10, help="random sets of units")
    command.add_argument("--batch", type=int, default=80, help="articles summarized at once")
    command.add_argument("--name", required=True, help="the record is wrong-facts-NAME.json")
    options = command.parse_args()
    prepare(options)
    run(options)
    print("\n".join(table(json.loads(record_file(options).read_text()))))


if __name__ == "__main__":
    main()
