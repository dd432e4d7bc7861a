"""Every benchmark runs and leaves its result; how fast this machine is, is not tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
# `convergence` reads no clock and so has no ratio; its tables are tested below
NO_BENCHMARK = {"measurement", "run_all", "convergence"}
NAMES = sorted(file.stem for file in BENCHMARKS.glob("*.py") if file.stem not in NO_BENCHMARK)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": source},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_quick_run_leaves_a_result(name: str, tmp_path: Path) -> None:
    done = run(name, "--quick", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
    result = json.loads(text)
    assert result["benchmark"] == name
    assert result["quick"] is True
    assert {"claim", "target", "reached", "date", "commit"} <= set(result)
    assert {"cpu", "cores", "threads", "load"} <= set(result["machine"])
    assert {"python", "torch", "transformers", "pytorch-lightning"} <= set(result["versions"])
    assert result["figures"]
    for case, values in result["figures"].items():
        assert values["ratio"] > 0
        assert values["ratio_cpu"] > 0
        printed = re.search(rf"^{name} {case}: ratio (\S+)", done.stdout, re.MULTILINE)
        # the file's figure is rounded too, to other places
        assert printed is not None
        assert float(printed[1]) == pytest.approx(values["ratio"], abs=0.006)
        assert f"| {name} | {case} |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    for place in (ROOT, tmp_path, Path.home()):
        assert str(place) not in text, "a result must not tell where it was made"


@pytest.mark.parametrize("name", NAMES)
def test_run_all_knows_it(name: str) -> None:
    assert f'"{name}"' in (BENCHMARKS / "run_all.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_readme_describes_it(name: str) -> None:
    assert f"{name}.py" in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run(name, "--device", "cuda")
    assert done.returncode == 1
    assert done.stderr.startswith("--device cuda: no GPU is visible to torch")


@pytest.mark.slow
def test_convergence_leaves_its_tables(tmp_path: Path) -> None:
    done = run("convergence", "--quick", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "convergence"
    tables = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["tables"]
    assert set(tables) == {"kl", "logit_difference"}
    for rows in tables.values():
        best = {row["rule"]: row["error"] for row in rows if row["steps"] == 3}
        assert best["midpoint"] < best["left"]
        assert best["gauss-legendre"] < best["right"]
    assert "| midpoint |" in (folder / "README.md").read_text(encoding="utf-8")
    assert "convergence.py" in (BENCHMARKS / "README.md").read_text(encoding="utf-8")
