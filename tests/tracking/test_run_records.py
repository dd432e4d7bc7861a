"""A run directory read record by record: whole as it was written, and damaged with file and key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sumcirc.storage.reading import RecordError
from sumcirc.tracking.run_records import RunRecords
from tests.support.pages import full_run


def change_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        body = json.loads((run / name).read_text())
        change(body)
        (run / name).write_text(json.dumps(body))

    return damage


def change_yaml(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        body = yaml.safe_load((run / name).read_text())
        change(body)
        (run / name).write_text(yaml.safe_dump(body))

    return damage


def put(*keys: Any, value: Any) -> Callable[[Any], None]:
    def change(body: Any) -> None:
        for key in keys[:-1]:
            body = body[key]
        body[keys[-1]] = value

    return change


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(content) and None


def folder(name: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return damage


def of_another_size(run: Path) -> None:
    from sumcirc.tracking.measure_records import ProbeRecord, record_file

    values = {"attention/kl_tuned_base": np.ones((5, 5, 2), np.float32)}
    ProbeRecord(10, ["a", "b"], values).save(record_file(run / "probes", 10))


def random_circuits_too_few(run: Path) -> None:
    point = {"edges": 4, "faithfulness": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 8}}
    whole = {"points": [point, point], "random": [[point, point]]}
    broken = {"points": [point, point], "random": [[point, point], [point]]}
    (run / "circuits/faithfulness.json").write_text(
        json.dumps({"absolute": whole, "signed": broken})
    )


DAMAGE: list[tuple[Callable[[Path], None], str, str]] = [
    (change_json("status.json", put("state", value=3)), "status.json", "state"),
    (change_json("status.json", put("resumed", value=-1)), "status.json", "resumed"),
    (folder("status.json"), "status.json", ""),
    (change_yaml("config.yaml", put("config", "model", value=[])), "config.yaml", "config.model"),
    (change_yaml("config.yaml", lambda body: body.pop("verb")), "config.yaml", "verb"),
    (
        change_yaml("config.yaml", lambda body: body["config"].pop("adaptation")),
        "config.yaml",
        "config.adaptation",
    ),
    (text("config.yaml", "[" * 200_000), "config.yaml", ""),
    (
        change_json("summary.json", put("systems", "trained", "length", value=3)),
        "summary.json",
        "systems.trained.length",
    ),
    (
        change_json("summary.json", lambda body: body["systems"]["base"].pop("rouge2_f1")),
        "summary.json",
        "systems.base.rouge2_f1",
    ),
    (change_json("summary.json", lambda body: body.pop("steps")), "summary.json", "steps"),
    (text("metrics.csv", "step,metric,value\n1,loss\n"), "metrics.csv", "line 2"),
    (text("metrics.csv", "step,metric,value\n1.5,loss,2\n"), "metrics.csv", "line 2"),
    (text("documents.parquet", "PAR1"), "documents.parquet", ""),
    (change_json("samples.json", put(0, "document", value=None)), "samples.json", "0.document"),
    (text("probes/step-000010.safetensors", "x"), "step-000010.safetensors", ""),
    (of_another_size, "step-000010.safetensors", ""),
    (
        change_json("circuits/step-000010.json", put("edges", "m2->logits", "score", value="1")),
        "step-000010.json",
        "edges.m2->logits.score",
    ),
    (
        change_json("circuits/evolution.json", put("edges", "within", value=[0.5])),
        "evolution.json",
        "edges.within",
    ),
    (
        change_json("circuits/evolution.json", put("transitions", 0, "noise_by_layer", value=[])),
        "evolution.json",
        "transitions.0.noise_by_layer",
    ),
    (random_circuits_too_few, "faithfulness.json", "signed.random.1"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_run(tmp_path_factory.mktemp("s") / "r").path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "s/r"))


def test_what_was_written_is_read(run: Path) -> None:
    found = RunRecords.open(run).read_all()
    assert (found.verb, found.done, found.trains) == ("train", True, True)
    assert found.config["adaptation"]["kind"] == "lora"
    assert found.environment["command"]
    assert set(found.systems) == {"base", "trained"}
    assert found.metrics["validation/loss"] == [(0, 6.0), (50, 4.0), (100, 3.0)]
    assert [record.step for record in found.probes] == [0, 10, 100]
    assert found.base_probe is not None
    assert [file.name for file, _ in found.circuits] == [
        f"step-{step:06d}.json" for step in (0, 10, 100)
    ]
    assert len(found.samples) == len(found.documents) == 2


def test_an_empty_directory_has_no_records(tmp_path: Path) -> None:
    found = RunRecords(tmp_path)
    assert not any((found.metrics, found.probes, found.circuits, found.samples))
    with pytest.raises(RecordError, match=r"status\.json: is not there"):
        found.read_all()


@pytest.mark.parametrize(("damage", "file", "key"), DAMAGE)
def test_a_damaged_record_is_named_with_its_key(
    damage: Callable[[Path], None], file: str, key: str, run: Path
) -> None:
    damage(run)
    with pytest.raises(RecordError) as caught:
        RunRecords(run).read_all()
    assert (caught.value.path.name, caught.value.key) == (file, key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [-1e30, float("inf")])
def test_a_measure_that_cannot_be_is_no_result(value: float, run: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from sumcirc.tracking.measure_records import record_file

    file = record_file(run / "probes", 10)
    arrays, metadata = load_file(file), RunRecords(run).probes[1]
    arrays["attention/kl_tuned_base"][0, 0, 0] = value
    header = {"step": 10, "documents": metadata.documents, "found": {}}
    save_file(arrays, file, {"format": "1", "record": json.dumps(header)})
    with pytest.raises(RecordError, match="`attention/kl_tuned_base` holds"):
        RunRecords(run).read_all()


def test_undefined_numbers_are_nan(run: Path) -> None:
    change_json(
        "summary.json",
        put("systems", "base", "length", value={"mean": 3, "low": None, "high": None, "n": 1}),
    )(run)
    found = RunRecords(run).summary["systems"]["base"]["length"]
    assert found["mean"] == 3
    assert np.isnan(found["low"])
