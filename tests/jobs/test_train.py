"""`sumcirc train` end to end on small models: the files of a run, and what is refused before it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from sumcirc.reporting.page.blocks import Bullets
from sumcirc.reporting.page.build import make_page
from sumcirc.runtime.quoting import markdown
from sumcirc.tracking.measure_records import read_metrics
from sumcirc.tracking.run_records import RunRecords
from tests.support.command_server import CommandServer


def run_directory(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/*")
    return found


def rows(run: Path) -> dict[str, list[dict]]:
    """Per-document records by system."""
    table = pyarrow.parquet.read_table(run / "documents.parquet").to_pylist()
    return {
        system: [row for row in table if row["system"] == system]
        for system in dict.fromkeys(row["system"] for row in table)
    }


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_files_of_a_run(
    adaptation: str, commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    overrides = [*small_run, f"adaptation={adaptation}", "evaluation.at_end=true", "seed=3"]
    done = commands.run("train", *overrides, cwd=tmp_path)
    assert done.code == 0, done.output
    run = run_directory(tmp_path)
    assert f"run directory: {run}" in done.output
    assert run.name == f"small-files-{'full' if adaptation == 'full' else 'lora-all-r16'}-s3"

    summary = json.loads((run / "summary.json").read_text())
    trained = summary["trainable_parameters"]
    total = summary["total_parameters"]
    assert (trained == total) == (adaptation == "full")
    assert summary["steps"] == 12
    assert summary["data/train/items"] == 40
    assert set(summary["seconds"]) == {
        *("data", "base", "probe base", "train", "probe", "evaluate")
    }

    cost = summary["cost"]
    assert cost["devices"] == 1
    assert cost["flops_per_second"] == pytest.approx(cost["flops"] / cost["seconds"])
    assert 0 < cost["seconds"] < summary["seconds"]["train"]
    # up to 6 for each trained parameter, 4 for each frozen one; adapters are not in the total
    per_parameter = cost["flops"] / cost["tokens"] / total
    assert 2.5 < per_parameter < 6
    assert cost["process_memory"] > 2**26
    assert "mfu" not in cost, "the peak of a CPU is unknown"
    for heading in ("FLOPs", "FLOP/s", "process GiB"):
        assert heading in done.output

    records = rows(run)
    assert list(records) == ["lead-3", "random-3", "oracle", "base", "trained"]
    ids = {system: [row["id"] for row in found] for system, found in records.items()}
    assert all(found == ids["lead-3"] for found in ids.values())
    for system, found in records.items():
        mean = summary["systems"][system]["rouge1_f1"]["mean"]
        assert mean == pytest.approx(sum(row["rouge1_f1"] for row in found) / len(found))

    metrics = read_metrics(run / "metrics.csv")
    assert {step for step, name, _ in metrics if name == "train/loss"} == {2, 4, 6, 8, 10, 12}
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert yaml.safe_load((run / "config.yaml").read_text())["config"]["seed"] == 3
    assert (run / "figures" / "loss.png").stat().st_size > 1000
    assert (run / "model").is_dir() == (adaptation == "full")
    assert (run / "adapter").is_dir() == (adaptation == "lora")


def test_what_data_lost_is_said_wherever_results_are(
    commands: CommandServer, small_run: list[str], news_files: dict[str, Path], tmp_path: Path
) -> None:
    """Three of 43 pairs have too long a summary; test is a part of train; documents are cut."""
    training = news_files["train"].read_text().splitlines()
    rows = [*training, *(json.dumps({"document": f"D{i}.", "summary": "a " * 90}) for i in "abc")]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    (tmp_path / "test.jsonl").write_text("\n".join(training[:6]))
    words = ["data.train=train.jsonl", "data.test=test.jsonl", "encoding.max_length=40"]
    words += ["encoding.max_summary_tokens=60", "evaluation.at_end=true", "evaluation.base=false"]
    done = commands.run("train", *small_run, *words, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    run = run_directory(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    notices = {(one["where"], one["reason"]): one for one in summary["notices"]}
    assert notices["data.train", "summary_too_long"]["count"] == 3
    assert not notices["data.train", "summary_too_long"]["warning"]
    assert notices["data.train", "cut"]["total"] == 43
    assert notices["data.test", "in_train"]["count"] == 6
    assert notices["data.test", "in_train"]["warning"]
    assert notices["data.test", "cut"]["warning"]
    assert summary["data/train/summary_too_long"] == 3
    page = make_page([RunRecords(run)], None, "sumcirc report r")
    shown = [line for section in page.sections for block in section.blocks
             if isinstance(block, Bullets) for line in block.lines]  # fmt: skip
    card = (run / "model" / "README.md").read_text()
    for one in summary["notices"]:
        assert done.output.count(one["text"]) == 2, "as it is found, and below the table"
        assert any(one["text"] in line for line in shown)
        if not one["where"].startswith("summaries of"):
            assert markdown(one["text"]) in card


def test_saved_weights_are_those_of_the_last_checkpoint(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    assert commands.run("train", *small_run, cwd=tmp_path, figures=False).code == 0
    run = run_directory(tmp_path)
    stored = torch.load(run / "checkpoints" / "step-000012.ckpt", weights_only=True)["state_dict"]
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    for name, value in model.named_parameters():
        assert torch.equal(stored[f"model.{name}"], value)


def test_llama_with_lora_on_one_layer_at_a_budget(
    commands: CommandServer, small_run: list[str], llama_folder: Path, tmp_path: Path
) -> None:
    overrides = [
        *small_run,
        f"model.path={llama_folder}",
        "adaptation=lora",
        "adaptation.layers=[1]",
        "adaptation.modules=[qkv,mlp_out]",
        "adaptation.rank=null",
        "adaptation.budget=3000",
    ]
    done = commands.run("train", *overrides, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    run = run_directory(tmp_path)
    trained = json.loads((run / "summary.json").read_text())["trainable_parameters"]
    model = AutoPeftModelForCausalLM.from_pretrained(str(run / "adapter"))
    names = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert all(".layers.1." in name for name in names)
    assert sum(p.numel() for n, p in model.named_parameters() if n in names) == trained
    rank = model.peft_config["default"].r  # type: ignore[union-attr]
    assert trained <= 3000 < trained // rank * (rank + 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adaptation.layers=[0,7]", "adaptation.layers=[0,7]: layer 7 is out of range"),
        ("generation.max_new_tokens=126", "encoding.prompt takes"),
        ("encoding.max_length=500", "encoding.max_length=500: the model's context is 128"),
        ("trainer.accelerator=gpu", "trainer.accelerator=gpu: no GPU is visible"),
        ("encoding.max_summary_tokens=1", ": all 40 summaries are longer"),
        ("data.validation=none.jsonl", "data.validation=none.jsonl"),
    ],
)
def test_mistakes_are_one_line_before_training(
    override: str, message: str, commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    overrides = [*small_run, "adaptation=lora", "evaluation.at_end=true", override]
    done = commands.run("train", *overrides, cwd=tmp_path)
    assert done.code == 2
    said = done.output.splitlines()[-1]
    assert said.startswith("sumcirc: ")
    assert message in said
    assert "Traceback" not in done.output
    assert not list(tmp_path.rglob("metrics.csv"))
    assert not list(tmp_path.rglob("*.ckpt"))
