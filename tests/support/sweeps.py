"""Sweeps as plain files: run directories as training leaves them, with scores made up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc import schema
from sumcirc.schema import Adaptation, Source
from sumcirc.storage.writing import write_json, write_table
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain

DOCUMENTS = 40
SCORED = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "facts")
COPIED = ("coverage", "density", "novel_ngrams_1", "novel_ngrams_2", "novel_ngrams_3")


def config(layers: Any = "all", seed: int = 1, **changes: Any) -> dict[str, Any]:
    """A resolved training configuration as config.yaml holds it.

    `changes` are sections or values by dotted name, dots as two underscores; `selector` is a name.
    """
    full = layers == "full"
    made = schema.TrainConfig(
        model=schema.ModelConfig(name="tiny", path="tiny"),
        data=schema.DataConfig(name="wire", source=Source.wire),
        trainer=schema.TrainerConfig(max_steps=100),
        logger=schema.LoggerConfig(),
        callbacks=schema.CallbacksConfig(),
        adaptation=schema.AdaptationConfig(
            kind=Adaptation.full if full else Adaptation.lora,
            layers="all" if full or layers == "auto" else layers,
            rank=None if full else 8,
        ),
        sweep=schema.SweepConfig(name="s"),
        run=schema.RunConfig(name="r"),
        cache_dir="cache",
        seed=seed,
    )
    found = plain(made)
    found["adaptation"]["layers"] = "all" if full else layers
    if "selector" in changes:
        name = changes.pop("selector")
        found["adaptation"]["layers"] = layers if layers != "all" else "auto"
        found["selector"] = {"name": name, "count": None, "seed": None}
    for key, value in changes.items():
        node = found
        *parents, last = key.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return found


def write_run(
    folder: Path,
    settings: dict[str, Any],
    mean: float,
    *,
    items: str = "x",
    documents: int = DOCUMENTS,
    parameters: int = 98304,
    steps: int = 100,
    seconds: float = 50.0,
    losses: Sequence[tuple[int, float]] = ((0, 6.0), (50, 4.0), (100, 3.0)),
    state: str = "done",
    noise: float = 0.02,
    draw: int | None = None,
    scored: bool = True,
    layers: Sequence[int] | None = None,
    **status: Any,
) -> RunDirectory:
    """A run directory whose scores lie around `mean`.

    Documents are as hard in every run. `draw` seeds the rest of the scores and the run's own level;
    None: the configuration's seed and the folder's name.
    """
    run = RunDirectory.create(folder, "train", settings)
    run.set_status(state, **status)
    if state != "done":
        return run
    hard = 0.1 * np.random.default_rng(0).normal(size=documents)
    name = [settings["seed"], *folder.name.encode()] if draw is None else [draw]
    rng = np.random.default_rng(name)
    score = mean + hard + noise * rng.normal() + noise * rng.normal(size=documents)
    for step, loss in losses:
        run.metrics.append(step, {"validation/loss": loss, "train/loss": loss + 0.1})
    summary: dict[str, Any] = {
        "model": settings["model"]["name"],
        "items": items,
        "trainable_parameters": parameters,
        "steps": steps,
        "seconds": {"train": seconds},
        "systems": {},
    }
    if layers is not None:
        summary["adapter"] = {"layers": list(layers)}
    if scored:
        records = [
            {
                "id": f"wire-{i}",
                "system": system,
                "prediction": f"The summary by {system}.",
                **{
                    measure: min(max(float(value) - 0.02 * k, 0.0), 1.0)
                    for k, measure in enumerate(SCORED)
                },
                "length": 15 + i % 3,
                **dict.fromkeys(COPIED, 0.5 if i else None),
            }
            for system, values in (("base", score - 0.3), ("trained", score))
            for i, value in enumerate(values)
        ]
        write_table(run.documents_file, records)
        interval = {"mean": 0.1, "low": 0.08, "high": 0.12, "n": documents}
        measures = dict.fromkeys((*SCORED, "length"), interval)
        summary["systems"] = {"base": measures, "trained": measures}
    write_json(run.summary_file, summary)
    return run


def write_sweep(
    folder: Path, means: dict[Any, float], seeds: Sequence[int] = (1, 2, 3), **options: Any
) -> Path:
    """A sweep: by arm (layers as a tuple, `all`, `full`, or a selector's name) its mean score."""
    for arm, mean in means.items():
        for seed in seeds:
            if isinstance(arm, tuple):
                settings = config(list(arm), seed)
            elif arm in ("all", "full"):
                settings = config(arm, seed)
            else:
                settings = config(seed=seed, selector=arm)
            label = ",".join(map(str, arm)) if isinstance(arm, tuple) else arm
            given = {"parameters": 1746944} if arm == "full" else {}
            write_run(folder / f"tiny-{label}-s{seed}", settings, mean, **{**given, **options})
    return folder
