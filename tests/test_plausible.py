"""Numbers that a measure can't be are refused by file and key, and never drawn or told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sumcirc.reporting.runs import gather, scored_runs
from sumcirc.storage.reading import RecordError
from sumcirc.storage.writing import MetricsFile
from sumcirc.tracking.measure_records import MEASURES, PLAUSIBLE, ProbeRecord, read_metrics
from tests.support.sweeps import config, write_run

LENGTH = {"layer": 2, "head": 2, "stream": 3, "neuron": 4, "document": 3}


def record(name: str, value: float) -> ProbeRecord:
    shape = tuple(LENGTH[axis] for axis in MEASURES[name].axes)
    fitting = np.full(shape, 0.5 if MEASURES[name].high > 0.5 else 0.0, dtype=np.float32)
    fitting.flat[1] = value
    return ProbeRecord(3, [f"d{i}" for i in range(3)], {name: fitting})


def stored(path: Path, name: str, value: float) -> Path:
    """A record with a value that `save` would not write."""
    record(name, 0.5).save(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    arrays[name].flat[1] = value
    save_file(arrays, path, metadata)
    return path


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [-1e30, 1e30, math.inf, -math.inf])
def test_a_measure_that_is_none_is_refused(name: str, value: float, tmp_path: Path) -> None:
    path = stored(tmp_path / "step-000003.safetensors", name, value)
    with pytest.raises(RecordError) as refused:
        ProbeRecord.read(path)
    assert str(refused.value) == f"{path}: `{name}` holds {value:g}, which it can't be"


@pytest.mark.parametrize("name", MEASURES)
def test_the_bounds_of_a_measure(name: str, tmp_path: Path) -> None:
    measure, path = MEASURES[name], tmp_path / "x.safetensors"
    for value in (measure.low, measure.high, math.nan):
        assert len(ProbeRecord.read(stored(path, name, value)).values[name])
    for bound, side in ((measure.low, -1), (measure.high, 1)):
        with pytest.raises(RecordError, match="can't be"):
            ProbeRecord.read(stored(path, name, bound + side * max(0.1, 0.1 * abs(bound))))


@pytest.mark.parametrize("name", ["residual/cka", "residual/rsa"])
@pytest.mark.parametrize("value", [1.7, -2.4])
def test_a_pseudo_value_of_one_document_may_lie_outside_of_the_bounds_of_the_whole(
    name: str, value: float, tmp_path: Path
) -> None:
    """n times the whole less n - 1 times the whole without it: the mean is within [-1, 1]."""
    path = stored(tmp_path / "x.safetensors", name, value)
    assert ProbeRecord.read(path).values[name].flat[1] == np.float32(value)
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.append(1, {f"{name}/layer_01": value})
    assert read_metrics(metrics.path) == [(1, f"{name}/layer_01", value)]


def test_what_overflows_is_undefined_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for value in (math.inf, 2 * PLAUSIBLE):
        record("residual/magnitude", value).save(path)
        assert np.isnan(ProbeRecord.read(path).values["residual/magnitude"].flat[1])


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        *(("train/loss", -1e30), ("validation/loss", -0.5), ("validation/loss", 1e30)),
        *(("attention/kl_tuned_base", -3.3e29), ("attention/entropy/layer_03", 40.0)),
        ("validation/perplexity", 0.5),
    ],
)
def test_a_metric_that_is_none_is_refused(metric: str, value: float, tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.append(1, {"train/loss": 2.0})
    file.append(2, {metric: value})
    with pytest.raises(RecordError) as refused:
        read_metrics(file.path)
    said = f"{file.path}: `line 3` holds {metric}={value:g}, which it can't be"
    assert str(refused.value) == said


def test_metrics_that_may_be(tmp_path: Path) -> None:
    """NaN: training diverged; what is known of nobody's measure may be anything."""
    values = {
        **{"train/loss": math.nan, "validation/loss": 0.0, "validation/perplexity": 1e30},
        **{"mine/score": -1e30, "attention/js": -1e-9, "validation/loss_of_mine": -2.0},
    }
    file = MetricsFile(tmp_path / "metrics.csv")
    file.append(1, values)
    assert [name for _, name, _ in read_metrics(file.path)] == list(values)


def test_a_run_with_such_a_number_is_listed_beside_the_others(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = write_run(tmp_path / "s" / f"r{seed}", config(seed=seed), 0.5)
    run.metrics.append(101, {"validation/loss": -1e30})
    found = gather([tmp_path / "s"])
    runs, left_out = scored_runs(found)
    assert [one.path.name for one in runs] == ["r1"]
    (missing,) = left_out
    assert "metrics.csv" in missing.reason
    assert "validation/loss=-1e+30, which it can't be" in missing.reason
