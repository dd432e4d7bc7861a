"""Watchers leave training as it is, look when they should, and write what they saw."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

from sumcirc.callbacks import circuit_tracker, measuring
from sumcirc.callbacks.factory import make_watchers
from sumcirc.callbacks.measuring import scheduled_steps
from sumcirc.circuits.eap_ig_format import read_circuit
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.measures.measure_documents import in_drawn_order
from sumcirc.schema import (
    WATCHERS,
    Adaptation,
    CircuitOptions,
    Corruption,
    ProbeScheduleConfig,
    ProbesConfig,
    TrainConfig,
)
from sumcirc.tracking.measure_records import ProbeRecord, record_file, record_files
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.training.trainer import fit
from tests.support.small_training import Trained, prepared, small_config

Files = dict[str, Path]
LORA = {"kind": Adaptation.lora, "rank": 4, "dropout": 0.2}
PROBES = ProbesConfig(documents=8, batch_size=2)
CIRCUIT = CircuitOptions(
    documents=4,
    held_out=0.0,
    sizes=[0.1, 1.0],
    random_circuits=1,
    resamples=20,
    corruption=Corruption.replace,
)


@pytest.fixture(scope="module", autouse=True)
def _undrawn() -> Iterator[None]:
    """Nothing here looks at the circuit's figures, which would be half the time.

    Without W&B no picture is drawn at the steps.
    """

    def drawn(view: object) -> None:
        raise AssertionError("a picture is drawn that nobody logs")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuit_tracker, "draw_all", lambda views, folder: [])
        patch.setattr(measuring, "picture", drawn)
        yield


@pytest.mark.parametrize(
    ("points", "every", "total", "expected"),
    [
        (4, None, 400, [0, 3, 11, 36, 121, 400]),
        (0, None, 400, [0, 400]),
        (0, 100, 400, [0, 100, 200, 300, 400]),
        (1, 3, 7, [0, 3, 6, 7]),
        (4, None, 2, [0, 1, 2]),
    ],
)
def test_scheduled_steps(points: int, every: int | None, total: int, expected: list[int]) -> None:
    assert scheduled_steps(ProbeScheduleConfig(points, every), total) == expected


def watched(config: TrainConfig, folder: Path) -> Trained:
    """Train as the job does, with the watchers that the configuration names."""
    from sumcirc.tracking.measure_records import read_metrics

    folder.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(folder)
    model, data = prepared(config)
    base = model.get_base_model() if config.adaptation.kind is Adaptation.lora else model
    watchers = make_watchers(config, base, data.encoder, data, run)
    trainer, module = fit(config, model, data, run, None, watchers)
    return Trained(config, run, trainer, module, read_metrics(run.metrics.path))


def config_of(model: Path, files: Files, folder: Path, **sections: Any) -> TrainConfig:
    fixed = {"probes": PROBES, "circuit": CIRCUIT}
    callbacks = {"watch": list(WATCHERS), **fixed, **sections.pop("callbacks", {})}
    return small_config(model, files, folder, callbacks=callbacks, **sections)


@pytest.mark.parametrize("adaptation", [{}, LORA])
def test_weights_are_the_same_bit_for_bit_with_watchers_and_without(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, adaptation: dict[str, Any]
) -> None:
    """With dropout and accumulation: one random number or mode left behind would show."""
    found = []
    for watch in ([], list(WATCHERS)):
        config = config_of(
            gpt2_folder,
            news_files,
            tmp_path / str(len(watch)),
            adaptation=adaptation,
            trainer={"accumulate": 2},
            callbacks={"watch": watch},
        )
        found.append(watched(config, tmp_path / f"run-{len(watch)}"))
    plain, probed = found
    for name, weight in plain.weights().items():
        assert torch.equal(weight, probed.weights()[name]), name
    names = {name for _, name, _ in plain.metrics} - {"time/tokens_per_second"}
    for name in names:
        assert plain.values(name) == probed.values(name)
    assert {name for _, name, _ in probed.metrics} > names
    assert not plain.run.probes.exists()


@pytest.fixture(scope="module")
def trained(
    gpt2_folder: Path, news_files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    config = config_of(gpt2_folder, news_files, folder, adaptation=LORA)
    return watched(config, folder / "run")


def test_records_of_every_scheduled_step(trained: Trained) -> None:
    files = record_files(trained.run.probes)
    steps = scheduled_steps(trained.config.callbacks.schedule, 6)
    assert [ProbeRecord.read(file).step for file in files] == steps == [0, 1, 2, 3, 4, 6]
    base = ProbeRecord.read(record_file(trained.run.probes, -1))
    first, last = ProbeRecord.read(files[0]), ProbeRecord.read(files[-1])
    assert first.documents == base.documents == last.documents
    # step 0 is the base; six steps later it is not
    np.testing.assert_allclose(
        first.values["attention/entropy"], base.values["attention/entropy"], atol=1e-6
    )
    assert first.values["attention/kl_tuned_base"].max() < 1e-6
    assert last.values["attention/kl_tuned_base"].max() > 1e-6
    assert last.values["residual/relative_change"][-1].min() > 1e-4
    assert last.found["lens"]


def test_scalars_are_logged_at_every_scheduled_step(trained: Trained) -> None:
    for name in (
        "attention/entropy",
        "attention/entropy/layer_01",
        "attention/heads_fell",
        "attention/heads_fell/low",
        "attention/heads_fell_significantly",
        "attention/kl_tuned_base/layer_00",
        "output/kl_tuned_base",
        "residual/cka/embedding",
        "residual/magnitude/layer_01",
        "logit_lens/log_probability/embedding",
        "logit_lens/kl_model_lens/layer_00",
        "attention/to_salient",
        "attention/to_salient/layer_01",
        "summaries/rouge1_f1",
        "summaries/rouge1_f1/high",
        "summaries/entity_recall",
        "summaries/unended",
    ):
        assert list(trained.values(name)) == [0, 1, 2, 3, 4, 6], name
    record = ProbeRecord.read(record_file(trained.run.probes, 6))
    for layer in range(2):
        expected = record.values["attention/entropy"][layer].mean(dtype=np.float64)
        assert trained.values(f"attention/entropy/layer_{layer:02d}")[6] == pytest.approx(expected)


def test_summaries_of_the_probe_documents_are_kept(trained: Trained) -> None:
    table = pyarrow.parquet.read_table(trained.run.probes / "summaries-000006.parquet")
    record = ProbeRecord.read(record_file(trained.run.probes, 6))
    assert table["id"].to_pylist() == record.documents
    assert "prediction" in table.column_names


def test_every_watcher_works_alone(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name in WATCHERS:
        with subtests.test(name):
            callbacks = {"watch": [name], "schedule": ProbeScheduleConfig(points=0)}
            config = config_of(gpt2_folder, news_files, tmp_path / name, callbacks=callbacks)
            found = watched(config, tmp_path / name / "run")
            logged = {metric.split("/")[0] for _, metric, _ in found.metrics}
            logged -= {"train", "validation", "time"}
            expected = {
                "attention_entropy": {"attention"},
                "base_divergence": {"attention", "output"},
                "activation_drift": {"residual"},
                "logit_lens": {"logit_lens"},
                "salient_attention": {"attention"},
                "summary_quality": {"summaries"},
                "circuit_tracker": {"circuit"},
            }
            assert logged == expected[name]


def test_a_spent_budget_leaves_out_all_but_the_first_and_last(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    schedule = ProbeScheduleConfig(points=4, budget=1e-9)
    config = config_of(gpt2_folder, news_files, tmp_path, callbacks={"schedule": schedule})
    found = watched(config, tmp_path / "run")
    steps = [ProbeRecord.read(file).step for file in record_files(found.run.probes)]
    assert steps == [0, 6]


def test_a_resumed_run_probes_what_is_left(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    config = config_of(gpt2_folder, news_files, tmp_path, trainer={"keep_checkpoints": -1})
    whole = watched(config, tmp_path / "whole")
    cut = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.run.path, cut.path)
    for step in (4, 6):
        (cut.checkpoints / f"step-{step:06d}.ckpt").unlink()
    before = record_file(cut.probes, 1).stat().st_mtime_ns
    resumed = watched(config, cut.path)
    assert record_file(cut.probes, 1).stat().st_mtime_ns == before
    for line in whole.metrics:
        if line[1] != "time/tokens_per_second":
            assert line in resumed.metrics
    for file in record_files(whole.run.probes):
        first, second = (ProbeRecord.read(f) for f in (file, resumed.run.probes / file.name))
        for name, values in first.values.items():
            np.testing.assert_array_equal(values, second.values[name])


def test_probe_documents_in_the_training_set_warn(
    gpt2_folder: Path, news_files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(gpt2_folder, {**news_files, "validation": news_files["train"]}, tmp_path)
    config.callbacks.probes = ProbesConfig(documents=1)
    model, data = prepared(config)
    with caplog.at_level(logging.WARNING):
        make_watchers(config, model, data.encoder, data, RunDirectory(tmp_path / "run"))
    assert "callbacks.probes: 1 of 1 documents are in data.train too" in caplog.text
    assert {notice.reason for notice in data.notices} >= {"in_train"}
    assert (
        "callbacks.probes: 1 of 8 documents that an interval needs, so results have none"
        in caplog.text
    )


def test_which_documents_are_probed_depends_on_no_order(
    gpt2_folder: Path, news_files: Files, tmp_path: Path
) -> None:
    _, data = prepared(config_of(gpt2_folder, news_files, tmp_path))
    documents = data.corpora["validation"].documents
    drawn = in_drawn_order(documents, 0)
    assert drawn == in_drawn_order(documents[::-1], 0)
    assert drawn != in_drawn_order(documents, 1)
    assert drawn != documents


def test_circuits_of_every_scheduled_step(trained: Trained) -> None:
    folder = trained.run.circuits
    steps = [0, 1, 2, 3, 4, 6]
    assert [DocumentScores.read(file).step for file in record_files(folder)] == steps
    base, first, last = (DocumentScores.read(record_file(folder, step)) for step in (-1, 0, 6))
    size = np.abs(base.scores).max()
    np.testing.assert_allclose(first.scores / size, base.scores / size, atol=1e-3)
    assert np.abs(last.scores - base.scores).max() > 0.02 * size
    circuit = read_circuit(record_file(folder, 6).with_suffix(".json"))
    assert circuit.kept.sum() == trained.values("circuit/edges")[6]
    for name in ("kl", "jaccard_base", "jaccard_resamples"):
        assert list(trained.values(f"circuit/{name}")) == steps, name
    # corruption changes the logits of random weights by 4e-7 nats, which is rounding
    for name in ("faithfulness", "cpr", "cmd", "cmd_random"):
        assert not trained.values(f"circuit/{name}"), name
    assert list(trained.values("circuit/jaccard_previous")) == steps[1:]
    evolution = json.loads((folder / "evolution.json").read_text())
    assert evolution["steps"] == [-1, *steps]
    assert len(evolution["transitions"]) == 6
