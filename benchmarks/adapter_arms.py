"""Measures what kinds of adapters learned and forgot: LoRA's variants, other modules, a penalty.

    python benchmarks/adapter_arms.py RECORDS runs/arms

The runs of the sweep are called ARM-sSEED, and were trained on the built-in articles. RECORDS gets
`learning-forgetting.csv`, from which `placement_forgetting.py` reads what was forgotten at equal
learning, and `costs.csv` with the rate, parameters, validation loss, time and memory of each run.
Runs that the former has are not measured again.

To compare at equal learning, the change of every weight is multiplied by each of AMOUNTS. That is
the adapter's own scale for LoRA, and means the same for adapters whose change isn't linear in a
scale (DoRA) and for full fine-tuning: weights between those of the base and the trained ones.
"""

from __future__ import annotations

import argparse
import copy
import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from placement_outcomes import AMOUNTS, BATCH, COLUMNS, Outcomes
from torch import Tensor, nn

from sumcirc import library
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.evaluation.retention import text_losses
from sumcirc.models.architectures import context_length
from sumcirc.reporting.runs import ReportRun, read_runs
from sumcirc.schema import EncodingConfig
from sumcirc.storage.writing import csv_text, write_text
from sumcirc.wire import articles

COST_COLUMNS = (
    *("arm", "seed", "learning_rate_scale", "parameters", "validation_loss"),
    *("train_seconds", "flops", "process_memory"),
)


def merged(model: Any) -> dict[str, Tensor]:
    """Return the weights of a trained model, with its adapter, if any, added to the base's."""
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@contextmanager
def partly(model: nn.Module, target: Mapping[str, Tensor], amount: float) -> Iterator[None]:
    """Move a model's weights by a share of the way to others in a `with` block.

    Args:
        model: the model.
        target: the other weights, by name.
        amount: 0 leaves the model as it is, 1 gives it the other weights.

    Raises:
        ValueError: the weights have other names.
    """
    own = model.state_dict()
    if own.keys() != target.keys():
        raise ValueError(f"other weights: {sorted(own.keys() ^ target.keys())[:3]}")
    before = copy.deepcopy(own)
    try:
        with torch.no_grad():
            for name, value in own.items():
                if value.is_floating_point():
                    # from the copy, since tied weights are there under two names
                    value.copy_(torch.lerp(before[name], target[name], amount))
        yield
    finally:
        model.load_state_dict(before)


def rows_of(run: ReportRun, outcomes: Outcomes, base: nn.Module) -> list[tuple[Any, ...]]:
    """Return what a run's model learned and forgot with each amount of its change."""
    arm, seed = named(run)
    model, _ = library.load(run.path)
    target = merged(model)
    moving = copy.deepcopy(base)
    found: list[tuple[Any, ...]] = []
    for amount in AMOUNTS:
        with partly(moving, target, amount):
            nll = float(outcomes.reference_nll(moving).mean())
            found.append((arm, seed, amount, nll, *outcomes.forgetting(moving, lambda: base)))
    return found


def costs_of(run: ReportRun) -> tuple[Any, ...]:
    """Return a run's row of costs.csv."""
    cost, adaptation = run.summary["cost"], run.config["adaptation"]
    return (
        *named(run),
        adaptation["learning_rate_scale"],
        run.summary["trainable_parameters"],
        run.losses[-1][1],
        cost["seconds"],
        cost["flops"],
        cost["process_memory"],
    )


def named(run: ReportRun) -> tuple[str, int]:
    """Return a run's arm and seed."""
    arm, _, seed = run.name.rpartition("-s")
    return arm, int(seed)


def measured(file: Path) -> list[tuple[str, ...]]:
    """Return the rows of learning-forgetting.csv; none if it isn't there."""
    if not file.exists():
        return []
    header, *rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
    if tuple(header) != COLUMNS:
        raise SystemExit(f"{file}: has other columns; choose another folder")
    return [tuple(row) for row in rows]


def rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(round(one, 6) if isinstance(one, float) else one for one in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("sweep", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs, _ = read_runs([arguments.sweep])
    runs = sorted(runs, key=lambda run: named(run)[::-1])
    other = [run.name for run in runs if run.config["data"]["source"] != "wire"]
    if other or any(run.config["data"]["seed"] for run in runs):
        parser.error("is for sweeps on the built-in articles with data.seed=0")
    base, tokenizer = library.load("tiny")
    encoder = Encoder(tokenizer, EncodingConfig(), context_length(base.config))
    items = articles("test", len(runs[0].ids), 0)
    test = [Document(item.id, item.document, (item.summary,)) for item in items]
    if any(set(run.ids) != {item.id for item in test} for run in runs):
        parser.error("the runs were scored on other documents than the first test articles")
    outcomes = Outcomes(encoder, test)
    file = arguments.records / "learning-forgetting.csv"
    rows: list[tuple[Any, ...]] = [*measured(file)]
    known = {(arm, seed) for arm, seed, *_ in rows}
    if not rows:
        losses = text_losses(base, None, outcomes.texts, BATCH)
        loss = float(np.mean([one.nll for one in losses]))
        nll = float(outcomes.reference_nll(base).mean())
        rows.append(rounded(("base", None, 0.0, nll, loss, 0.0)))
    for run in runs:
        arm, seed = named(run)
        if (arm, str(seed)) in known:
            continue
        found = rows_of(run, outcomes, base)
        rows += map(rounded, found)
        print(f"{run.name}: {', '.join(f'{one:.4f}' for one in found[-1][3:])}", flush=True)
        write_text(file, csv_text(COLUMNS, rows))
    costs = [rounded(costs_of(run)) for run in runs]
    write_text(arguments.records / "costs.csv", csv_text(COST_COLUMNS, costs))


if __name__ == "__main__":
    main()
