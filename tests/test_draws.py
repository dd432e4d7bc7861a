"""benchmarks/draws_measure.py and draws_tables.py against plain forward passes and plain numpy."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sumcirc import library
from sumcirc.cli import main as cli
from sumcirc.data.documents import Document
from sumcirc.data.encoding import Encoder
from sumcirc.schema import EncodingConfig
from sumcirc.wire import articles
from tests.test_placement_outcomes import adapted

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("draws_measure")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("draws_tables")


@torch.no_grad()
def test_losses_in_batches_are_those_of_single_passes(measure: Any) -> None:
    model, encoder = adapted()
    items = [Document(i.id, i.document, (i.summary,)) for i in articles("test", 5, 0)]
    examples = [encoder.example(item) for item in items]
    expected = []
    for example in examples:
        ids = torch.as_tensor(example.ids).long()[None]
        logs = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        chosen = logs.gather(1, ids[0, 1:, None])[:, 0]
        expected.append(-float(chosen[example.prompt_length - 1 :].mean()))
    assert len({len(example.ids) for example in examples}) > 1
    found = measure.reference_losses(model, examples, batch_size=3)
    assert found == pytest.approx(expected, rel=1e-5)


def test_runs_are_measured_once(
    measure: Any,
    small_run: list[str],
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*small_run, "adaptation=lora", "trainer.max_steps=4", "callbacks=none"]
    words += [f"runs_dir={tmp_path}", "sweep.name=s", "data.id_column=id"]
    by_id = {}
    for split, path in news_files.items():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        by_id |= {f"{split}-{i}": row | {"id": f"{split}-{i}"} for i, row in enumerate(rows)}
        own = [row for name, row in by_id.items() if name.startswith(split)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
        words.append(f"data.{split}={tmp_path / split}.jsonl")
    out = tmp_path / "records"

    def train(name: str, layer: int, *more: str) -> None:
        cli.main(["train", *words, f"run.name={name}", f"adaptation.layers=[{layer}]", *more])

    def run(count: int) -> None:
        texts = ["--texts", str(news_files["validation"]), "--count", "3"]
        given = [str(out), str(tmp_path / "s"), "--documents", str(count), *texts]
        monkeypatch.setattr(sys, "argv", ["draws_measure.py", *given])
        measure.main()

    train("one", 0)
    run(2)
    base, found = (json.loads((out / f"{name}.json").read_text()) for name in ("base", "one"))
    assert (found["layers"], found["selector"], found["steps"]) == ([0], None, 4)
    assert (found["modules"], found["targets"]) == (["qkv", "attn_out", "mlp_in", "mlp_out"], None)
    assert len(base["documents"]) == len(base["nll"]) == len(found["nll"]) == 2
    assert len(base["texts"]) == len(found["text_kl"]) == len(found["text_nll_change"]) == 3
    assert min(found["text_kl"]) > 0
    model, tokenizer = library.load(tmp_path / "s/one")
    encoder = Encoder(tokenizer, EncodingConfig(), model.config.n_positions)
    for name, nll in zip(base["documents"], found["nll"], strict=True):
        item = Document(name, by_id[name]["document"], (by_id[name]["summary"],))
        example = encoder.example(item)
        ids = torch.as_tensor(example.ids).long()[None]
        with torch.no_grad():
            logs = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        chosen = logs.gather(1, ids[0, 1:, None])[example.prompt_length - 1 :, 0]
        assert nll == pytest.approx(-float(chosen.mean()), abs=2e-5)

    train("two", 1)
    with pytest.raises(SystemExit):
        run(3)  # the record of the base is of other documents
    before = (out / "one.json").stat().st_mtime_ns
    run(2)
    assert (out / "one.json").stat().st_mtime_ns == before
    assert json.loads((out / "two.json").read_text())["layers"] == [1]

    train("three", 1, "encoding.max_length=60")
    (out / "one.json").unlink()
    with pytest.raises(SystemExit, match="has other data, encoding or precision"):
        run(2)


def record(
    selector: str | None, nll: Any, draw: int | None = None, seed: int = 1
) -> dict[str, Any]:
    """A record of a run on two of four layers, or on all of them without a selector."""
    layers = [0, 1, 2, 3] if selector is None else [0, 2]
    shared = {"of_layers": 4, "text_nll_change": [0.1, 0.3], "text_kl": [0.2, 0.4]}
    named = {"selector": selector, "layers": layers, "seed": seed, "draw": draw}
    return {**named, **shared, "nll": list(map(float, nll))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    documents = rng.normal(1.3, 0.4, 200)

    def around(mean: float) -> Any:
        return documents + mean + rng.normal(0, 0.02, 200)

    made = {
        "draw1": record("random", around(0.00), 1),
        "draw2": record("random", around(0.02), 2),
        "draw3": record("random", around(-0.02), 3),
        "page": record("page", around(-0.05)),
        "last": record("last", around(0.01)),
        "all": record(None, around(-0.1)),
        "mlp": record(None, around(0.05)) | {"modules": ["mlp_in", "mlp_out"]},
        "ends-s1": record(None, around(0.2)) | {"layers": [0, 3]},
        "one": record("page", around(0.08)) | {"targets": ["model.layers.2.mlp.up_proj"]},
        "again": record("random", around(0.005), 1, seed=2),
        "base": {"nll": list(documents + 1)},
    }
    for name, body in made.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(body))
    return tmp_path


def test_arms_are_placed_among_the_draws(tables: Any, folder: Path) -> None:
    records = tables.read(folder)
    assert [arm.name for arm in records.arms] == [
        *("all", "page", "random 3", "random 1", "last", "random 2"),
        *("all, mlp_in and mlp_out", "page, modules", "ends"),
    ]
    assert [(arm.name, arm.seed) for arm in records.repeats] == [("random 1", 2)]
    draws = np.mean([arm.nll for arm in records.draws], axis=0)
    for arm, better in zip(records.arms, (0, 0, 1, 2, 2, 3, 3, 3, 3), strict=True):
        assert tables.as_good(records, arm) == better
        found = tables.beside_draws(records, arm)
        assert found.mean == pytest.approx((arm.nll - draws).mean())
        assert found.low < found.mean < found.high
    lines = tables.table(records)
    assert len(lines) == 2 + 9
    assert lines[2].startswith("| all | all | ")
    assert "| 3 of 3 | - |" in lines[-2]
    assert lines[-2].startswith("| page, modules | 2.mlp.up_proj | ")
    assert "| 0 of 3 | 0.25 |" in lines[2]
    assert "| 2 of 3 | 0.75 |" in lines[6]
    assert "random 1, seed 2" in "".join(tables.repeat_lines(records))
    assert {dot.name for dot in tables.picture(records).panels[0][0].dots} == {
        arm.name for arm in records.arms
    }


def test_draws_that_differ_are_told_from_noise_of_documents(tables: Any, folder: Path) -> None:
    """The F test of a layout of draws and documents with one value in each cell."""
    found = tables.among_draws(tables.read(folder))
    scores = np.stack([arm.nll for arm in tables.read(folder).draws])
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    ratio = 200 * scores.mean(1).var(ddof=1) / ((rest**2).sum() / (2 * 199))
    source = found.sources["sets"]
    assert (source.f, source.degrees, source.error_degrees) == (pytest.approx(ratio), 2, 398)
    assert source.p_value < 1e-6

    spread = scores.mean(1).std(ddof=1)
    noise = np.sqrt((rest**2).sum() / (2 * 199) / 200)
    (_, told, further) = tables.spread_lines(tables.read(folder))
    assert (
        f"standard deviation {spread:.4f}; by dialogues' noise alone it would be {noise:.4f}"
        in told
    )
    means = scores.mean(1)
    margin = 4.302652729911275 * means.std(ddof=1) * np.sqrt(4 / 3)  # t(2) at 0.975
    assert further.endswith(f"between {means.mean() - margin:.3f} and {means.mean() + margin:.3f}")
