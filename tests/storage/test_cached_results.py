"""Every kind of cached result: whatever happens to a file, the result is right and it is said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sumcirc.circuits.attribution.base_scores import base_scores
from sumcirc.evaluation.summaries import summarize_once
from sumcirc.measures.measuring import prepare_base
from sumcirc.schema import GenerationConfig
from sumcirc.selection.choosing import select
from sumcirc.selection.tuned import load_tuned
from sumcirc.storage import cache
from sumcirc.storage.cache import SUMS
from tests.support.damage import DAMAGES
from tests.support.small_evidence import evidence, selecting

# of the damages that tests/storage/test_cache.py does to cheap results
COSTLY = ("middle byte flipped", "cut to half", "a folder")
LORA_A = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
KINDS = {
    "encoded": {"pairs.npz"},
    "summaries": {"summaries.json"},
    "bases": {
        *("about.json", "base.safetensors", "unembedding.safetensors", "batch-0000.safetensors"),
    },
    "circuits": {"scores.safetensors"},
    "selection": {"scores.json"},
    "probe_runs": {"adapter_config.json", "adapter_model.safetensors", "README.md"},
}


@dataclass
class Jobs:
    """What jobs ask of the cache, by kind, on one small model."""

    folder: Path
    make: Callable[..., Any]

    def ask(self, kind: str) -> Any:
        found = self.make()
        config, model, encoder = found.config, found.model, found.encoder
        validation = found.data.corpora["validation"]
        generation = GenerationConfig(max_new_tokens=4, no_repeat_ngram=0)
        if kind == "encoded":
            return list(encoder.corpus(validation, "data.validation", self.folder))
        if kind == "summaries":
            documents = validation.documents[:3]
            return summarize_once(model, encoder, documents, generation, self.folder)
        if kind == "bases":
            return prepare_base(model, found.probes, self.folder).record.values
        if kind == "circuits":
            options = config.selector.circuit
            return base_scores(model, found.pairs[:2], options, self.folder).scores
        if kind == "selection":
            return select(found)
        return load_tuned(config, model, encoder, found.data).state_dict()

    def entry(self, kind: str) -> Path:
        (entry,) = (one for one in (self.folder / kind).iterdir() if one.is_dir())
        return entry


@pytest.fixture
def jobs(gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path) -> Jobs:
    config = selecting(gpt2_folder, news_files, tmp_path, "gradient_norm", probe_steps=2)
    folder = tmp_path / "cache"
    found = evidence(replace(config, cache_dir=str(folder)))
    return Jobs(folder, lambda: found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_and_the_work_is_done_again(
    kind: str, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    first = jobs.ask(kind)
    names = {file.name for file in jobs.entry(kind).iterdir()}
    assert names == KINDS[kind] | {SUMS}
    for name in sorted(names):
        for damage in COSTLY:
            caplog.clear()
            DAMAGES[damage](jobs.entry(kind) / name)
            again = jobs.ask(kind)
            said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
            assert len(said) == 1, (name, damage, said)
            assert str(jobs.entry(kind)) in said[0]
            assert name == SUMS or f"/{name}: " in said[0], damage
            assert "\n" not in said[0]
            assert same(again, first), (name, damage)
    caplog.clear()
    assert same(jobs.ask(kind), first)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def shorter(name: str, file: Path) -> None:
    """Leave out the first item of an array, or of all that lie along the same axis."""
    if file.suffix == ".npz":
        with np.load(file) as stored:
            arrays = {one: stored[one] for one in stored.files}
        arrays[name] = arrays[name][1:]
        np.savez(file, **arrays)
    elif file.suffix == ".safetensors":
        with safe_open(file, framework="numpy") as stored:
            metadata = stored.metadata()
        arrays = load_file(file)
        arrays[name] = np.ascontiguousarray(arrays[name][1:])
        save_file(arrays, file, metadata)
    else:
        body = json.loads(file.read_text())
        file.write_text(
            json.dumps(body[1:] if isinstance(body, list) else {**body, name: body[name][1:]})
        )


@pytest.mark.parametrize(
    ("kind", "file", "array"),
    [
        ("encoded", "pairs.npz", "ids"),
        ("encoded", "pairs.npz", "lengths"),
        ("encoded", "pairs.npz", "prompt_lengths"),
        ("encoded", "pairs.npz", "truncated"),
        ("encoded", "pairs.npz", "names"),
        ("summaries", "summaries.json", ""),
        ("bases", "batch-0000.safetensors", "residual"),
        ("bases", "batch-0000.safetensors", "neurons"),
        ("bases", "batch-0000.safetensors", "normed"),
        ("bases", "batch-0000.safetensors", "query.1"),
        ("bases", "batch-0000.safetensors", "key.0"),
        ("bases", "unembedding.safetensors", "weight"),
        ("circuits", "scores.safetensors", "edges"),
        ("selection", "scores.json", "values"),
        ("probe_runs", "adapter_model.safetensors", LORA_A),
    ],
)
def test_arrays_of_other_sizes_are_never_taken(
    kind: str, file: str, array: str, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """Though their checksum is right: as written by another version, or by somebody's script."""
    first = jobs.ask(kind)
    entry = jobs.entry(kind)
    shorter(array, entry / file)
    (entry / SUMS).write_text(cache._text(cache._sums(entry)))
    assert same(jobs.ask(kind), first)
    (said,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert said.startswith(f"cache: {entry}")
    caplog.clear()
    assert same(jobs.ask(kind), first)
    assert not caplog.records


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal, number by number."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dict__"):
        return same(vars(one), vars(other)) if type(one) is type(other) else False
    if hasattr(one, "shape"):
        arrays = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
        rounding = 1e-5 * np.nanmax(np.abs(arrays[0]), initial=0)  # sums depend on where they lie
        return np.allclose(*arrays, rtol=1e-5, atol=rounding, equal_nan=True)
    return one == other
