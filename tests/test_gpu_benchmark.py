"""benchmarks/gpu.py in its form for a CPU: every stage runs, is skipped or is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
ON_CPU = ("--device", "cpu", "--quick", "--threads", "1")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    places = [str(BENCHMARKS), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    )


def result(folder: Path) -> dict:
    text = (folder / "gpu.json").read_text(encoding="utf-8")
    for place in (ROOT, folder, Path.home()):
        assert str(place) not in text, "a result must not tell where it was made"
    return json.loads(text)


@pytest.mark.slow
def test_every_stage_runs_on_a_cpu(tmp_path: Path) -> None:
    done = python(str(BENCHMARKS / "gpu.py"), *ON_CPU, "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = result(tmp_path)
    assert found["quick"] is True
    assert all(seconds > 0 for seconds in found["stages"].values())
    figures = found["figures"]
    for stage in found["stages"]:
        kind, _, subject = stage.partition("_")
        case = {"circuits": "attribution", "attention": "entropy_all"}.get(kind, kind)
        subject = {"rank": "built_in", "compile": "gpt2_small"}.get(kind, subject)
        assert figures[f"{case}_{subject}"]["ratio"] > 0
        assert f"gpu {case}_{subject}: ratio" in done.stdout
    for name in ("smollm2", "gpt2_small", "llama_8b"):
        figure = figures[f"training_{name}"]
        assert figure["weight_difference"] <= figure["weight_difference_at_most"]
        for side in ("sumcirc", "trainer"):
            assert figure[side]["flops_per_second"] > 0
            assert "mfu" not in figure[side], "the peak of a CPU is not known"
    assert figures["training_llama_8b"]["shape"]["weights"] == "bfloat16"
    assert figures["training_smollm2"]["shape"]["weights"] == "float32"
    # rounding to 8 bits changes few ranks of a trained model's scores
    assert 0.95 < figures["rank_built_in"]["ratio"] < 1
    assert figures["rank_built_in"]["largest_in_common"] > 0.9


@pytest.mark.slow
def test_stages_are_skipped_when_the_budget_is_used(tmp_path: Path) -> None:
    script = BENCHMARKS / "gpu.py"
    done = python(str(script), *ON_CPU, "--budget", "0", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = result(tmp_path)
    assert found["figures"] == {}
    assert found["reached"] is False
    assert len(found["stages"]) == 13
    assert all(why.startswith("skipped: ") for why in found["stages"].values())
    assert done.stdout.count(": skipped: ") == 13


@pytest.mark.slow
def test_a_failed_stage_is_reported_and_the_others_are_kept(tmp_path: Path) -> None:
    """As on a GPU whose memory does not suffice for one of the shapes."""
    code = """
import sys, gpu
def breaks(plan):
    raise MemoryError("not enough")
case = {"ratio": 2.0, "ratio_cpu": 2.0, "at_least": 1.0}
gpu.STAGES = (
    gpu.Stage("first", 1, lambda plan: {"one": case}),
    gpu.Stage("second", 1, breaks),
    gpu.Stage("third", 1, lambda plan: {"three": case}),
)
gpu.main()
"""
    done = python("-c", code, *ON_CPU, "--results", str(tmp_path))
    assert done.returncode == 1
    assert "not enough" in done.stderr
    found = result(tmp_path)
    assert set(found["figures"]) == {"one", "three"}
    assert found["stages"]["second"] == "failed: MemoryError"
    assert found["reached"] is False


@pytest.mark.slow
def test_utilization_is_the_rate_over_the_peak() -> None:
    code = """
from measurement import Lap
from training_throughput import Work
work = Work(tokens=[9.0, 10.0, 30.0], operations=[9.0, 4e12, 12e12], peak=100e12)
found = work.rates([Lap(0.5, 1.0), Lap(1.5, 1.0)])
assert found["mfu"] == 0.08, found
assert found["per_second"] == 20, found
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "cpu"), "--device cpu: the shapes are too large for a CPU; add --quick"),
        (("--device", "cpu", "--quick", "--model", "nowhere"), "--model nowhere: has no config"),
    ],
)
def test_mistakes_are_refused(words: tuple[str, ...], said: str) -> None:
    done = python(str(BENCHMARKS / "gpu.py"), *words)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_it_refuses_to_run_without_a_gpu(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = python(str(BENCHMARKS / "gpu.py"), "--results", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("--device cuda: no GPU is visible to torch")
