"""`sumcirc evaluate` scores a run, its adapter or its folder as training scored them."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import ANY

import pyarrow.parquet
import pytest

from sumcirc.reporting.page.blocks import TableBlock, Words
from sumcirc.reporting.page.build import make_page
from sumcirc.tracking.run_records import RunRecords
from tests.support.command_server import CommandServer
from tests.support.scoring_models import classifier_folder, encoder_folder


def summary(folder: Path) -> dict:
    (file,) = folder.glob("runs/*/*/summary.json")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def trained(
    commands: CommandServer, small_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A finished run of each kind; steep enough that what it writes is no longer the base's."""
    found = {}
    for kind in ("full", "lora"):
        folder = tmp_path_factory.mktemp(kind)
        options = [f"adaptation={kind}", "evaluation.at_end=true", "optimizer.learning_rate=0.02"]
        done = commands.run("train", *small_run, *options, cwd=folder, figures=False)
        assert done.code == 0, done.output
        (found[kind],) = folder.glob("runs/*/*")
    return found


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_run_directory_scores_as_training_did(
    kind: str, commands: CommandServer, trained: dict[str, Path], tmp_path: Path
) -> None:
    done = commands.run(
        "evaluate", f"checkpoint={trained[kind]}", "logger=none", cwd=tmp_path, figures=False
    )
    assert done.code == 0, done.output
    expected = json.loads((trained[kind] / "summary.json").read_text())["systems"]
    assert expected["trained"] != expected["base"]
    found = summary(tmp_path)
    # eight tokens are too few to end a summary, and baselines copy
    assert found["systems"]["trained"]["unended"]["mean"] == 1.0
    assert "unended" not in found["systems"]["lead-3"]
    for name in ("copied", "entity_precision"):
        assert found["systems"]["lead-3"][name]["mean"] == 1.0
    assert "entities and degenerate summaries, %" in done.output
    page = make_page([RunRecords(next(tmp_path.glob("runs/*/*")))], None, "sumcirc report r")
    tables = [block.table for section in page.sections for block in section.blocks
              if isinstance(block, TableBlock)]  # fmt: skip
    (shown,) = [table for table in tables if "entities supported" in table.headings]
    assert [row[0] for row in shown.rows] == ["lead-3", "random-3", "oracle", ANY]
    base = expected.pop("base")
    assert found["systems"] == expected
    assert base["rouge1_f1"]["n"] == 6
    assert "seconds" in found


@pytest.mark.parametrize(("kind", "folder"), [("full", "model"), ("lora", "adapter")])
def test_folder_alone_scores_as_its_run(
    kind: str,
    folder: str,
    commands: CommandServer,
    trained: dict[str, Path],
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Without the run's configuration around it, the same settings have to be given."""
    settings = ["generation.max_new_tokens=8", "evaluation.bootstrap=100", "logger=none"]
    data = ["data=files", f"data.test={news_files['test']}"]
    checkpoint = f"checkpoint={trained[kind] / folder}"
    done = commands.run("evaluate", checkpoint, *data, *settings, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    expected = json.loads((trained[kind] / "summary.json").read_text())["systems"]
    assert summary(tmp_path)["systems"]["trained"] == expected["trained"]


def test_untrained_model_is_the_base_of_training(
    commands: CommandServer,
    trained: dict[str, Path],
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    settings = ["generation.max_new_tokens=8", "evaluation.bootstrap=100", "logger=none"]
    data = ["data=files", f"data.test={news_files['test']}"]
    done = commands.run(
        "evaluate", f"model.path={gpt2_folder}", *data, *settings, cwd=tmp_path, figures=False
    )
    assert done.code == 0, done.output
    expected = json.loads((trained["full"] / "summary.json").read_text())["systems"]
    found = summary(tmp_path)["systems"]
    assert found["base"] == expected["base"]
    assert "trained" not in found


@pytest.mark.parametrize("case", ["unfinished", "other base"])
def test_mistakes_are_one_line(
    case: str,
    commands: CommandServer,
    trained: dict[str, Path],
    llama_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    import shutil

    broken = Path(shutil.copytree(trained["lora"], tmp_path / "broken"))
    if case == "unfinished":
        shutil.rmtree(broken / "adapter")
        arguments, message = [f"checkpoint={broken}"], "training did not finish"
    else:
        file = broken / "adapter" / "adapter_config.json"
        changed = {**json.loads(file.read_text()), "base_model_name_or_path": str(llama_folder)}
        file.write_text(json.dumps(changed))
        data = ["data=files", f"data.test={news_files['test']}"]
        arguments, message = [f"checkpoint={broken / 'adapter'}", *data], "does not fit the model"
    done = commands.run("evaluate", *arguments, "logger=none", cwd=tmp_path, figures=False)
    assert done.code == 2
    said = done.output.splitlines()[-1]
    assert said.startswith("sumcirc: checkpoint=") or str(broken) in said
    assert message in said
    assert "Traceback" not in done.output


def test_scores_by_other_models(
    commands: CommandServer, gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    encoder, classifier = tmp_path / "encoder", tmp_path / "classifier"
    given = [
        *(f"model.path={gpt2_folder}", "data=files", f"data.test={news_files['test']}"),
        *("generation.max_new_tokens=8", "evaluation.bootstrap=100", "logger=none"),
        *(f"evaluation.bertscore={encoder_folder(encoder)}", "evaluation.bertscore_layer=2"),
        f"evaluation.nli={classifier}",
    ]
    refused = commands.run("evaluate", *given, cwd=tmp_path, figures=False)
    assert refused.code == 2
    assert refused.output.splitlines()[-1].startswith(f"sumcirc: evaluation.nli={classifier}: no")
    assert not list(tmp_path.glob("runs/*/*/summary.json"))

    classifier_folder(classifier)
    done = commands.run("evaluate", *given, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    found = summary(tmp_path)
    rows = pyarrow.parquet.read_table(next(tmp_path.glob("runs/*/*/documents.parquet")))
    for system, scores in found["systems"].items():
        for measure in ("bertscore_precision", "bertscore_recall", "bertscore_f1", "nli_entailed"):
            values = [row[measure] for row in rows.to_pylist() if row["system"] == system]
            assert len(values) == 6
            assert scores[measure]["mean"] == pytest.approx(sum(values) / 6)
    used = found["scoring_models"]
    assert used["bertscore"]["model"] == str(encoder)
    assert used["bertscore"]["layer"] == 2
    assert len(used["nli"]["fingerprint"]) == 128
    page = make_page([RunRecords(next(tmp_path.glob("runs/*/*")))], None, "sumcirc report r")
    blocks = [block for section in page.sections for block in section.blocks]
    shown = [block.table for block in blocks if isinstance(block, TableBlock)]
    assert any({"BERTScore", "entailed"} <= set(table.headings) for table in shown)
    for model in used.values():
        short = f"by {model['model']} (fingerprint {model['fingerprint'][:12]})"
        assert short in " ".join(done.output.split())
        assert any(isinstance(block, Words) and short in block.text for block in blocks)
