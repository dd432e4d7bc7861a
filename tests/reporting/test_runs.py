"""Which runs a comparison reads, what it leaves out and why, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sumcirc.errors import UserError
from sumcirc.reporting.runs import baselines, read_runs, run_folders
from tests.support.sweeps import DOCUMENTS, config, write_run, write_sweep


def test_runs_of_sweeps_and_single_runs_are_read_once(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {(0, 1): 0.4, "all": 0.5}, seeds=(1, 2))
    runs, left_out = read_runs([sweep, sweep / "tiny-all-s1"])
    assert [run.name for run in runs] == [
        *("tiny-0,1-s1", "tiny-0,1-s2", "tiny-all-s1", "tiny-all-s2"),
    ]
    assert not left_out
    first = runs[0]
    assert len(first.ids) == len(first.values["rouge2_f1"]) == DOCUMENTS
    assert first.losses == [(0, 6.0), (50, 4.0), (100, 3.0)]
    assert first.seeds == (1, None)


def test_what_is_undefined_is_nan(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config(), 0.4)
    (run,), _ = read_runs([tmp_path / "s"])
    assert np.isnan(run.values["coverage"][0])
    assert np.isfinite(run.values["coverage"][1:]).all()


def test_only_what_was_trained_is_compared(tmp_path: Path) -> None:
    """The base scores 0.3 less in the same file."""
    write_run(tmp_path / "s/a", config(), 0.8, noise=0.0)
    (run,), _ = read_runs([tmp_path / "s"])
    assert run.values["rouge1_f1"].mean() == pytest.approx(0.8, abs=0.05)


def test_unfinished_runs_are_left_out_with_the_reason(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"all": 0.5}, seeds=(1,))
    write_run(sweep / "a", config(seed=2), 0.5, state="failed", reason="CUDA out\nof memory")
    write_run(sweep / "b", config(seed=3), 0.5, state="running")
    write_run(sweep / "c", config(seed=4), 0.5, state="pending", reason="stopped by Ctrl-C")
    write_run(sweep / "d", config(seed=5), 0.5, scored=False)
    write_run(sweep / "e", config(seed=6), 0.5).set_status("done", verb="evaluate")
    (sweep / "comparison").mkdir()
    runs, left_out = read_runs([sweep])
    assert [run.name for run in runs] == ["tiny-all-s1"]
    found = {item.path.name: item.reason for item in left_out}
    assert set(found) == {*"abcd"}
    assert found["a"] == "failed: CUDA out of memory"
    assert found["b"].startswith("running, or cut off; continue with `sumcirc train resume=")
    assert found["c"].startswith("stopped by Ctrl-C; continue with `sumcirc train resume=")
    assert "not scored" in found["d"]


def test_runs_that_a_sweep_has_not_started(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"all": 0.5}, seeds=(1,))
    (sweep / "sweep.yaml").write_text("runs:\n  tiny-all-s1: {}\n  tiny-all-s2: {}\n")
    runs, (absent,) = read_runs([sweep])
    assert [run.name for run in runs] == ["tiny-all-s1"]
    assert absent.path.name == "tiny-all-s2"
    assert absent.reason == "never started; give the sweep's command again"


def test_different_items_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config(), 0.4)
    write_run(tmp_path / "s/b", config(seed=2), 0.4, items="y")
    with pytest.raises(UserError, match=r"s/b and .*s/a were scored on different items"):
        read_runs([tmp_path / "s"])


def test_scores_of_other_words_are_refused(tmp_path: Path) -> None:
    for name, tokenizer in (("a", "ascii"), ("b", "unicode")):
        run = write_run(tmp_path / "s" / name, config(), 0.4)
        summary = json.loads(run.summary_file.read_text())
        summary["rouge"] = {"tokenizer": tokenizer, "words": f"words of {tokenizer}"}
        run.summary_file.write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"by other words \(.*evaluation.rouge_tokenizer differs"):
        read_runs([tmp_path / "s"])


def test_documents_in_another_order_are_different_items(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config(), 0.4)
    write_run(tmp_path / "s/b", config(seed=2), 0.4, documents=DOCUMENTS - 1)
    with pytest.raises(UserError, match="different items"):
        read_runs([tmp_path / "s"])


def test_one_document_says_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", config(), 0.4, documents=1)
    with pytest.raises(UserError, match=r"1 document.*data\.sizes\.test"):
        read_runs([tmp_path / "s"])


def test_paths_that_hold_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such directory"):
        run_folders(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no run"):
        run_folders(tmp_path / "empty")
    write_run(tmp_path / "s/a", config(), 0.4, state="failed", reason="boom")
    with pytest.raises(UserError, match=r"no training run has scores .*failed: boom"):
        read_runs([tmp_path / "s"])


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    run = write_run(tmp_path / "s/a", config(), 0.4)
    run.documents_file.write_text("torn")
    with pytest.raises(UserError, match=r"documents\.parquet: is not a readable"):
        read_runs([run.path])


def test_baselines_that_all_runs_share(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"all": 0.5}, seeds=(1, 2))
    runs, _ = read_runs([sweep])
    assert set(baselines(runs)) == {"base"}
    runs[1].summary["systems"]["base"] = {"rouge1_f1": {"mean": 0.7}}
    assert baselines(runs) == {}
