"""Measures what the runs of a landscape learned and forgot, on references and on plain articles.

    make placement
    python benchmarks/placement_outcomes.py runs/placement runs/placement/placement

For every set of layers, LoRA on all layers and every seed, the mean negative log-likelihood of each
test document's reference summary is added to the landscape as the score `nll`, so that
`sumcirc placement LANDSCAPE metric=nll` analyses it.

Arms that learned less forget less, so forgetting is compared at equal learning: the adapter's
change is multiplied by each of AMOUNTS, and `learning-forgetting.csv` holds, for each, the loss on
the references, the loss on held-out articles as plain text, and KL(base || trained) on them per
token. The articles come from the same generator with another seed, and are no run's data.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from draws_measure import reference_losses
from numpy.typing import NDArray
from peft import PeftModel
from peft.helpers import rescale_adapter_scale
from placement_join import ALL, places_of

from sumcirc import library
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.evaluation.retention import text_losses
from sumcirc.models.architectures import context_length
from sumcirc.models.base_beside import BaseBeside
from sumcirc.placement.landscape import Landscape
from sumcirc.placement.landscape_files import read_landscape, write_landscape
from sumcirc.placement.units import label_of
from sumcirc.schema import EncodingConfig
from sumcirc.storage.writing import csv_text, write_text
from sumcirc.wire import articles

Values = NDArray[np.float64]

AMOUNTS = (0.25, 0.5, 0.75, 1.0)  # by which the adapter's change is multiplied
ARTICLES, ARTICLES_SEED = 100, 1  # the runs' data has seed 0
BATCH = 16
NLL = "nll"
COLUMNS = ("arm", "seed", "amount", "reference_nll", "article_nll", "article_kl")


def _no_base() -> Any:
    raise ValueError("the base is the adapter's model with the adapter switched off")


class Outcomes:
    """Measures a trained model on the test documents' references and on the held-out articles.

    Args:
        encoder: encodes documents as the runs did.
        documents: the test documents.
    """

    def __init__(self, encoder: Encoder, documents: list[Document]) -> None:
        self.examples = [encoder.example(item) for item in documents]
        texts = articles("test", ARTICLES, ARTICLES_SEED)
        self.texts = [encoder.text(item.document)[: encoder.max_length] for item in texts]

    def reference_nll(self, model: Any) -> Values:
        """Return the loss on each document's reference, [documents], in nats a token."""
        return reference_losses(model, self.examples)

    def forgetting(
        self, model: Any, load_base: Callable[[], Any] = _no_base
    ) -> tuple[float, float]:
        """Return the mean loss on the articles and the mean KL from the base, in nats a token.

        Args:
            model: the trained model.
            load_base: called for the base where switching an adapter off doesn't give it.
        """
        losses = text_losses(model, BaseBeside(model, load_base), self.texts, BATCH)
        kl = [one.kl for one in losses if one.kl is not None]
        return float(np.mean([one.nll for one in losses])), float(np.mean(kl))


def with_nll(landscape: Landscape, found: dict[tuple[str, int], Values]) -> Landscape:
    """Return the landscape with the loss on the references as one more score."""

    def stacked(arm: str) -> Values:
        return np.array([found[arm, seed] for seed in landscape.seeds])

    scores = np.array([stacked(label_of(layers)) for layers in landscape.sets])
    others = {
        name: {**own, NLL: stacked(name)}
        for name, own in landscape.others.items()
        if (name, landscape.seeds[0]) in found
    }
    return replace(landscape, scores={**landscape.scores, NLL: scores}, others=others)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="the runs of make placement")
    parser.add_argument("landscape", type=Path, help="what sumcirc placement wrote of them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    landscape, choices = read_landscape(arguments.landscape)
    if landscape.modules:
        parser.error("is for sets of layers, and the landscape has single modules")
    if landscape.settings.get("data.source") != "wire" or landscape.settings.get("data.seed") != 0:
        parser.error("is for sweeps on the built-in articles with data.seed=0")
    base, tokenizer = library.load("tiny")
    encoder = Encoder(tokenizer, EncodingConfig(), context_length(base.config))
    test = [
        Document(item.id, item.document, (item.summary,))
        for item in articles("test", len(landscape.documents), 0)
    ]
    if tuple(item.id for item in test) != landscape.documents:
        parser.error("the runs were scored on other documents than the first test articles")
    outcomes = Outcomes(encoder, test)
    rows: list[tuple[Any, ...]] = []
    found: dict[tuple[str, int], Values] = {}
    texts = text_losses(base, None, outcomes.texts, BATCH)
    loss = float(np.mean([one.nll for one in texts]))
    rows.append(("base", None, 0.0, float(outcomes.reference_nll(base).mean()), loss, 0.0))
    whole = tuple(range(landscape.layers))
    for (layers, seed), run in places_of(arguments.sweep).items():
        if seed not in landscape.seeds:
            continue
        arm = ALL if layers == whole else label_of(layers)
        model, _ = library.load(run.path)
        assert isinstance(model, PeftModel)
        for amount in AMOUNTS:
            with rescale_adapter_scale(model, amount):
                nll = outcomes.reference_nll(model)
                rows.append((arm, seed, amount, float(nll.mean()), *outcomes.forgetting(model)))
        found[arm, seed] = nll
        print(f"{arm} seed {seed}: {rows[-1][3]:.4f}, {rows[-1][4]:.4f}, {rows[-1][5]:.4f}")
    write_landscape(with_nll(landscape, found), choices, arguments.landscape)
    table = [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in rows]
    write_text(arguments.landscape / "learning-forgetting.csv", csv_text(COLUMNS, table))


if __name__ == "__main__":
    main()
