"""Writes the layers that selectors choose for a landscape, before its results are looked at.

    python benchmarks/placement_choices.py choices.json model.path=MODEL seed=1

Each selector chooses three layers once, from documents of the training split, with its default
settings and the overrides given (those of `sumcirc select`): `selector.count=1` for one layer,
`selector.count=1 adaptation.granularity=module` for one module (several with equal scores are all
named). The file has these settings, the model's fingerprint, the commit, and for each selector the
layers or modules, the score of each, and how often resamples of the documents choose the same; it
is written after each selector, and selectors that it has are not run again. A selector that refuses
to choose is named with its reason.
`placement_join.py --choices` adds the file to a landscape.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sumcirc.cli import command
from sumcirc.data.datamodule import SummarizationData
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.models.architectures import context_length
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.models.loading import load_model, load_tokenizer
from sumcirc.schema import SelectConfig, configuration
from sumcirc.selection.choosing import select
from sumcirc.selection.context import SelectionContext
from sumcirc.storage.writing import plain_numbers, write_json
from sumcirc.tracking.run_directory import git_commit
from sumcirc.tracking.session import plain
from sumcirc.training.machine import set_threads

COUNT = 3
# those that compute little come first
SELECTORS = (
    *("first", "middle", "last", "kappa", "plop", "eva", "page", "fisher", "gradient_norm"),
    *("loraga", "resnorm", "cka_redundancy", "attention_kl", "entropy", "drift", "circuit"),
    *("circuit_delta", "delta_energy", "extrapolated"),
)


def composed(name: str, overrides: list[str]) -> SelectConfig:
    """Return the configuration with which a selector chooses."""
    words = [f"selector={name}", "logger=none", "trainer.threads=1"]
    if not any(word.startswith("selector.count=") for word in overrides):
        words.append(f"selector.count={COUNT}")
    (found,) = command.compose(command.read("select", [*words, *overrides]))
    return found  # type: ignore[no-any-return]


def chosen(config: SelectConfig) -> tuple[dict[str, Any], str]:
    """Return what a selector chooses, and the fingerprint of the model it chose for."""
    set_threads(config.trainer)
    model: Any = load_model(config.model)
    fingerprint = model_fingerprint(model)
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model.config))
    cache = Path(config.cache_dir)
    data = SummarizationData(config.data, config.trainer, encoder, cache, config.seed)
    data.read(["train"])
    try:
        ranking = select(SelectionContext(config, model, encoder, data))
    except UserError as error:
        return {"refused": str(error)}, fingerprint
    targets: dict[str, Any] = {}
    if ranking.granularity == "module":
        # a selector that scores layers can't tell their modules apart: it chooses all of them
        least = min(one.score for one in ranking.chosen)
        targets["modules"] = [
            f"{one.layer}.{one.module}" for one in ranking.ranking if one.score >= least
        ]
        order = {name: place for place, name in enumerate(ranking.modules)}
        ranked = sorted(ranking.ranking, key=lambda one: (one.layer, order[str(one.module)]))
        targets["scores"] = {f"{one.layer}.{one.module}": one.score for one in ranked}
    else:
        ranked = sorted(ranking.ranking, key=lambda one: one.layer)
        targets |= {"layers": ranking.layers, "scores": [one.score for one in ranked]}
    found = {
        **targets,
        "unit": ranking.unit,
        "documents": ranking.size,
        "stability": ranking.stability,
    }
    return found, fingerprint


def main(arguments: list[str] | None = None) -> None:
    """Let each selector choose, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("overrides", nargs="*", help="settings of `sumcirc select`")
    options = parser.parse_args(arguments)
    configuration.register()
    found: dict[str, Any] = {}
    if options.out.exists():
        found = json.loads(options.out.read_text(encoding="utf-8"))["selectors"]
    for name in SELECTORS:
        if name in found:
            continue
        config = composed(name, options.overrides)
        found[name], fingerprint = chosen(config)
        shared = plain(config.selector)
        del shared["name"]
        body = {
            "settings": shared,
            "data": {
                "train": config.data.sizes.train,
                "seed": config.data.seed,
                "event": config.data.event and config.data.event.value,
            },
            "seed": config.seed,
            "model": fingerprint,
            "commit": git_commit(),
            "selectors": found,
        }
        write_json(options.out, plain_numbers(body))
        one = found[name]
        print(f"{name}: {one.get('layers') or one.get('modules') or one['refused']}", flush=True)


if __name__ == "__main__":
    main()
