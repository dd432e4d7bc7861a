"""Measures what adapters on chosen layers of a large model learned and forgot, for one run each.

    python benchmarks/draws_measure.py RECORDS runs/draws runs/chosen --texts texts.jsonl

Where not all sets of layers can be trained, chosen sets stand beside random draws. For every
training run of the sweeps, RECORDS gets a file with the negative log-likelihood of each test
document's reference and, with `--texts`, how the loss on each text and KL(base || trained) changed
when the trained model reads it as plain text; `base.json` has the losses of the model before
training. Runs that have a file are not measured again. The files have numbers and ids, no text.

Losses are computed in bfloat16 autocast if the runs were trained so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from peft import PeftModel
from torch.nn import functional as F

from sumcirc import library
from sumcirc.data.batches import TrainingBatch
from sumcirc.data.documents import read_corpus
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import TokenExample, by_length
from sumcirc.data.plain_texts import TextFiles, read_texts
from sumcirc.evaluation.retention import text_losses
from sumcirc.models.architectures import context_length
from sumcirc.models.base_beside import BaseBeside
from sumcirc.models.unembedding import unembedding_of
from sumcirc.models.unwrapping import base_model
from sumcirc.reporting.runs import ReportRun, gather
from sumcirc.runtime.progress import counted
from sumcirc.schema import DataConfig, EncodingConfig, EvaluationConfig
from sumcirc.storage.writing import write_text

Values = NDArray[np.float64]

BATCH = 8
BASE = "base"


@torch.inference_mode()
def reference_losses(
    model: Any, examples: Sequence[TokenExample], batch_size: int = BATCH
) -> Values:
    """Return the mean loss on each document's reference and the end after it, [documents], in nats.

    Args:
        model: a transformers decoder or a PEFT model around one.
        examples: the documents' training sequences.
        batch_size: number of sequences that run at the same time.
    """
    backbone, unembedding = base_model(model).base_model, unembedding_of(base_model(model))
    found = np.zeros(len(examples))
    with counted("losses on references", len(examples)) as advance:
        for chosen in by_length([len(one.ids) for one in examples], batch_size):
            batch = TrainingBatch.of([examples[i] for i in chosen])
            hidden = backbone(batch.input_ids, use_cache=False).last_hidden_state
            logits = unembedding(hidden.flatten(0, 1).index_select(0, batch.positions))
            losses = F.cross_entropy(logits.float(), batch.labels, reduction="none").double()
            rows = (batch.positions // batch.input_ids.shape[1]).numpy()
            sums = np.bincount(rows, losses.numpy(), len(chosen))
            found[np.array(chosen)] = sums / np.bincount(rows, minlength=len(chosen))
            advance(len(chosen))
    return found


def forgetting(model: PeftModel, texts: Sequence[Sequence[int]]) -> tuple[list[float], list[float]]:
    """Return how a trained model reads plain texts, beside its base.

    Args:
        model: a model with an adapter, without which it is the base.
        texts: token ids of each text.

    Returns:
        The change of the loss on each text, and KL(base || trained), both in nats a token.
    """
    change, kl = [], []
    for one in text_losses(model, BaseBeside(model, _no_base), texts, BATCH):
        assert one.base_nll is not None
        assert one.kl is not None
        change.append(one.nll - one.base_nll)
        kl.append(one.kl)
    return change, kl


class Outcomes:
    """Measures models on the test documents of their runs and on plain texts.

    Args:
        run: a run, whose test documents, prompt and precision are those of all others.
        texts: settings of the plain texts; None measures no forgetting.
        documents: number of test documents that are drawn; None takes as many as the run.
    """

    def __init__(
        self, run: ReportRun, texts: EvaluationConfig | None, documents: int | None = None
    ) -> None:
        config = run.config
        data: DataConfig = _settings(DataConfig, config["data"])
        if documents is not None:
            data = replace(data, sizes=replace(data.sizes, test=documents))
        self.conditions = self._conditions(run)
        self.half = config["trainer"]["precision"] == "bf16"
        self.model, tokenizer = library.load(config["model"]["path"])
        self.layers = int(self.model.config.num_hidden_layers)
        encoding = _settings(EncodingConfig, config["encoding"])
        encoder = Encoder(tokenizer, encoding, context_length(self.model.config))
        cache = Path(config["cache_dir"])
        corpus = read_corpus(data, "test", cache)
        encoded = encoder.corpus(corpus, "data.test", cache)
        self.examples = [encoded[i] for i in range(len(encoded))]
        self.texts: list[list[int]] = []
        self.names: list[str] = []
        if texts is not None:
            for found in read_texts(TextFiles.of_retention(texts), data.seed).values():
                self.names += [one.id for one in found.documents]
                self.texts += [
                    encoder.text(one.document)[: encoder.max_length] for one in found.documents
                ]

    def before(self) -> dict[str, Any]:
        """Return the losses of the model before training, with the documents' and texts' ids."""
        with self._precision():
            nll = reference_losses(self.model, self.examples)
            texts = text_losses(self.model, None, self.texts, BATCH)
        return {
            "documents": [one.id for one in self.examples],
            "nll": _rounded(nll),
            "texts": self.names,
            "text_nll": _rounded([one.nll for one in texts]),
        }

    def of(self, run: ReportRun) -> dict[str, Any]:
        """Return what a run's model learned and forgot, as numbers."""
        if self._conditions(run) != self.conditions:
            raise SystemExit(
                f"{run.path}: has other data, encoding or precision than the first run"
            )
        model, _ = library.load(run.path)
        assert isinstance(model, PeftModel)
        with self._precision():
            nll = reference_losses(model, self.examples)
            change, kl = forgetting(model, self.texts)
        selector, adaptation = run.config.get("selector"), run.config["adaptation"]
        chosen = adaptation["granularity"] == "module"
        return {
            "selector": selector and selector["name"],
            "layers": run.layers,
            "modules": adaptation["modules"],
            "targets": run.summary["adapter"]["targets"] if chosen else None,
            "of_layers": self.layers,
            "seed": run.seeds[0],
            "draw": run.seeds[1],
            "parameters": run.summary["trainable_parameters"],
            "steps": run.summary["steps"],
            "validation": [[step, round(loss, 5)] for step, loss in run.losses],
            "commit": run.directory.read_config()["environment"].get("commit"),
            "nll": _rounded(nll),
            "text_nll_change": _rounded(change),
            "text_kl": _rounded(kl),
        }

    @staticmethod
    def _conditions(run: ReportRun) -> tuple[Any, ...]:
        config = run.config
        return config["data"], config["encoding"], config["trainer"]["precision"]

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext()


def _settings(kind: Any, stored: dict[str, Any]) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), stored))


def _rounded(values: Any) -> list[float]:
    return [round(float(one), 5) for one in values]


def _write(file: Path, found: dict[str, Any]) -> None:
    """Write a record with one line for each key."""
    rows = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    write_text(file, "{\n" + ",\n".join(rows) + "\n}\n")


def _no_base() -> Any:
    raise ValueError("the base is the adapter's model with the adapter switched off")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", type=Path, help="folder of the files")
    parser.add_argument("sweeps", type=Path, nargs="+", help="sweeps of trainings")
    parser.add_argument("--documents", type=int, help="number of test documents, if fewer")
    parser.add_argument("--texts", help="file of texts that are read as plain text")
    parser.add_argument("--column", default="document", help="column of these texts")
    parser.add_argument("--count", type=int, default=100, help="number of these texts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [run for run in gather(arguments.sweeps).runs if run.trains]
    if len({run.path.name for run in runs}) < len(runs):
        parser.error("two runs have the same name; give them other ones by run.name")
    todo = [run for run in runs if not (arguments.records / f"{run.path.name}.json").exists()]
    if not todo:
        return
    texts = None
    if arguments.texts:
        texts = EvaluationConfig(
            retention=[arguments.texts],
            retention_column=arguments.column,
            retention_documents=arguments.count,
        )
    arguments.records.mkdir(parents=True, exist_ok=True)
    outcomes = Outcomes(todo[0], texts, arguments.documents)
    base = arguments.records / f"{BASE}.json"
    if not base.exists():
        _write(base, outcomes.before())
    known = json.loads(base.read_text(encoding="utf-8"))
    ids = {"documents": [one.id for one in outcomes.examples], "texts": outcomes.names}
    if any(known[name] != found for name, found in ids.items()):
        parser.error(f"{base}: is of other documents or texts; take another folder")
    for run in todo:
        found = outcomes.of(run)
        _write(arguments.records / f"{run.path.name}.json", found)
        kl = np.mean(found["text_kl"]) if found["text_kl"] else np.nan
        print(f"{run.path.name}: {np.mean(found['nll']):.4f}, KL {kl:.4f}", flush=True)


if __name__ == "__main__":
    main()
