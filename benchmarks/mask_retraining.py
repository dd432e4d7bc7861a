"""Judge rankings of modules by retraining: how much is learned if only the best are trained?

    sumcirc compare after=RUN_DIR 'compare.analyses=[masks]' compare.items=24
    python benchmarks/mask_retraining.py sets COMPARE_DIR/summary.json runs/mask-sets
    export SUMCIRC_NAMESPACES=mask_sets PYTHONPATH=runs/mask-sets
    sumcirc train -m --config-dir runs/mask-sets experiment=demo adaptation=lora \\
      adaptation.granularity=module selector=masks_40,path_40,inverted_40,random0_40 seed=1 \\
      trainer.max_steps=300 callbacks=none sweep.name=retraining
    python benchmarks/mask_retraining.py measure RUN_DIR... --record FILE
    python benchmarks/mask_retraining.py tables FILE

`sets` takes the rankings of modules from what `sumcirc compare` found, and writes a selector for
every ranking and size, which chooses the modules of its set. The sets are those that were judged by
putting their change into the base: the first modules that fit into the size, by learned masks
(mean rank over seeds), by path scores, by the learned masks' order inverted, and in random orders.

`measure` reads the runs of such sweeps, and one of LoRA on all modules, and writes for each run and
test document the loss on its reference and the share of its key facts that the summary states, and
for the run the loss and KL(base || trained) on other articles as plain text. Another random order
in another seed is a draw of the same arm.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sumcirc.reporting.kinds import Table
from sumcirc.reporting.tables import markdown_table
from sumcirc.reporting.views.mask_views import RANKINGS
from sumcirc.schema import MODULES
from sumcirc.statistics import crossed_difference
from sumcirc.statistics.relaxed_top_k import exact_set
from sumcirc.storage.reading import read_json, read_table
from sumcirc.storage.writing import write_json, write_text

Values = NDArray[np.float64]

ALL = "all"  # LoRA on all modules
NAMES = {**RANKINGS, "random": RANKINGS["random_weights"], ALL: "all modules"}
SIZES = (0.4, 0.2)
DRAWS = 3  # random orders
FACTS = {"id": str, "system": str, "facts": float | None}
HEADER = '''"""Modules to train, by the rankings of a comparison; written by mask_retraining.py."""

from sumcirc.library import rule

'''
FUNCTION = """
def {name}(context):
    return rule({scores}, "in the set")
"""


def module_orders(masks: dict[str, Any]) -> dict[str, NDArray[np.int64]]:
    """Return the order of the modules by each ranking, best first.

    Modules are numbered layer by layer, in the order of `schema.MODULES`.

    Args:
        masks: what a comparison says about the masks of a model.
    """
    units = in_order(masks)
    learned = np.argsort([np.mean(one["ranks"]) for one in units], kind="stable")
    orders = {"masks": learned, "path": np.argsort([one["path"] for one in units], kind="stable")}
    orders["inverted"] = learned[::-1]
    for draw in range(DRAWS):
        orders[f"random{draw}"] = np.random.default_rng(draw).permutation(len(units))
    return orders


def in_order(masks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the modules layer by layer.

    Args:
        masks: what a comparison says about the masks of a model.
    """
    return sorted(masks["units"], key=lambda one: (one["layer"], MODULES.index(one["part"])))


def write_sets(masks: dict[str, Any], folder: Path) -> list[str]:
    """Write a selector for every ranking and size, and return their names.

    Args:
        masks: what a comparison says about the masks of a model.
        folder: where to write mask_sets.py and selector/NAME.yaml.
    """
    units = in_order(masks)
    weights = np.array([one["weights"] for one in units])
    names, functions = [], HEADER
    for size in SIZES:
        for ranking, order in module_orders(masks).items():
            chosen = exact_set(order, weights, size)
            scores = np.zeros(len(units), dtype=int)
            scores[chosen] = 1
            name = f"{ranking}_{100 * size:.0f}"
            functions += FUNCTION.format(
                name=name, scores=scores.reshape(-1, len(MODULES)).tolist()
            )
            about = f"name: own\nscore: mask_sets.{name}\ncount: {len(chosen)}\n"
            write_text(folder / "selector" / f"{name}.yaml", about)
            names.append(name)
    write_text(folder / "mask_sets.py", functions)
    return names


def arm_of(score: str | None) -> tuple[str, float]:
    """Return the ranking and the size of a run, from its `selector.score`.

    Args:
        score: the setting; None for LoRA on all modules.
    """
    if score is None:
        return ALL, 1.0
    ranking, size = score.removeprefix("mask_sets.").rsplit("_", 1)
    return ranking.rstrip("0123456789"), int(size) / 100


def measure(runs: list[Path]) -> dict[str, Any]:
    """Return what each run learned and forgot.

    Args:
        runs: run directories of trainings on the wire.
    """
    import torch
    from placement_outcomes import Outcomes

    from sumcirc import library
    from sumcirc.data.documents import Document
    from sumcirc.data.encoding import Encoder
    from sumcirc.models.architectures import context_length
    from sumcirc.schema import EncodingConfig
    from sumcirc.tracking.run_directory import RunDirectory
    from sumcirc.wire import articles

    torch.set_num_threads(1)
    tables = {run: read_table(run / "documents.parquet", FACTS) for run in runs}
    facts = {
        run: {row["id"]: row["facts"] for row in rows if row["system"] == "trained"}
        for run, rows in tables.items()
    }
    count = min(len(one) for one in facts.values())
    base, tokenizer = library.load("tiny")
    encoder = Encoder(tokenizer, EncodingConfig(), context_length(base.config))
    test = [Document(one.id, one.document, (one.summary,)) for one in articles("test", count, 0)]
    outcomes = Outcomes(encoder, test)
    found: list[dict[str, Any]] = []
    for run in runs:
        config = RunDirectory(run).read_config()["config"]
        ranking, size = arm_of(config["selector"]["score"])
        model, _ = library.load(run)
        loss, kl = outcomes.forgetting(model)
        summary = read_json(run / "summary.json", dict[str, Any])
        found.append(
            {
                **{"ranking": ranking, "size": size, "seed": config["seed"]},
                "parameters": summary["trainable_parameters"],
                **{"article_nll": loss, "article_kl": kl},
                "nll": [round(float(one), 6) for one in outcomes.reference_nll(model)],
                "facts": [facts[run][item.id] for item in test],
            }
        )
        print(f"{run.name}: {np.mean(found[-1]['nll']):.4f}, {loss:.4f}, {kl:.4f}", flush=True)
    start = [round(float(one), 6) for one in outcomes.reference_nll(base)]
    return {"documents": [item.id for item in test], "base": {"nll": start}, "runs": found}


def arms(record: dict[str, Any]) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """Return the runs of each ranking and size, by seed.

    Args:
        record: what `measure` returned.
    """
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for run in sorted(record["runs"], key=lambda one: one["seed"]):
        found.setdefault((run["ranking"], run["size"]), []).append(run)
    return found


def outcome_table(record: dict[str, Any]) -> Table:
    """Return what was learned and forgotten by training only the modules of each set.

    Differences to learned masks of the same size are over the seeds that both have, paired by
    document and, but for random orders, by seed.

    Args:
        record: what `measure` returned.
    """
    made = arms(record)
    rows = []
    for (ranking, size), runs in sorted(made.items(), key=lambda one: (-one[0][1], order(one[0]))):
        own = made.get(("masks", size), [])
        shared = {run["seed"] for run in own} & {run["seed"] for run in runs}
        cells = [NAMES[ranking], f"{100 * size:.0f} %", str(len(runs))]
        cells.append(f"{np.mean([run['parameters'] for run in runs]):,.0f}")
        for name, times, digits in (("nll", 1, 3), ("facts", 100, 1)):
            values = times * np.array([run[name] for run in runs], dtype=np.float64)
            cells.append(f"{values.mean():.{digits}f}")
            if ranking in ("masks", ALL) or not shared:
                cells.append("-")
                continue
            sides = [
                times * np.array([run[name] for run in side if run["seed"] in shared])
                for side in (own, runs)
            ]
            apart = crossed_difference(*sides, paired=ranking != "random")
            ends = f"[{apart.low:.{digits}f}, {apart.high:.{digits}f}]"
            cells.append(f"{apart.mean:.{digits}f} {ends}")
        cells.append(f"{np.mean([run['article_kl'] for run in runs]):.2f}")
        rows.append(cells)
    headings = [
        *("trained modules", "size", "runs", "parameters", "loss on references"),
        *("masks − its", "facts x 100", "masks − its", "KL on articles"),
    ]
    return Table("retraining", headings, rows)


def order(arm: tuple[str, float]) -> int:
    """Return the place of a ranking in tables."""
    return [ALL, "masks", "path", "random", "inverted"].index(arm[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    sets = verbs.add_parser("sets", help="write a selector for every ranking and size")
    sets.add_argument("summary", type=Path, help="summary.json of sumcirc compare")
    sets.add_argument("folder", type=Path)
    measured = verbs.add_parser("measure", help="measure the runs")
    measured.add_argument("runs", type=Path, nargs="+")
    measured.add_argument("--record", type=Path, required=True)
    tables = verbs.add_parser("tables", help="print what was measured")
    tables.add_argument("record", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "sets":
        (found,) = read_json(arguments.summary, dict[str, Any])["after"].values()
        print(",".join(write_sets(found["masks"], arguments.folder)))
    elif arguments.verb == "measure":
        write_json(arguments.record, measure(arguments.runs))
    else:
        print(markdown_table(outcome_table(read_json(arguments.record, dict[str, Any]))))


if __name__ == "__main__":
    main()
