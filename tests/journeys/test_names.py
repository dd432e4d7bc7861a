"""Every verb that logs, offline: what it logged is in the table of names, and the table is logged.

What the dashboard takes for logged is what was, and every panel is of logged names.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sumcirc.reporting.dashboard.layout import layout
from sumcirc.reporting.dashboard.logged_runs import Material, read_material
from sumcirc.reporting.dashboard.panels import CurvePanel, names_of
from sumcirc.tracking.measure_records import TO_DISTRACTOR
from sumcirc.tracking.metric_names import LOGGED, STEP, MetricKind, find
from sumcirc.tracking.wandb_values import NAMES
from tests.support.command_server import CommandServer
from tests.support.logged import logged_names, records, settings_of

WATCHERS = "attention_entropy,base_divergence,activation_drift,summary_quality,circuit_tracker"
WATCHERS += ",logit_lens,salient_attention"
SMALL = ("evaluation.bootstrap=100", "generation.max_new_tokens=8")
WANDB = ("logger=wandb", "logger.mode=offline", "sweep.name=s", "logger.artifact=true")


def with_text(sweep: Path, words: list[str]) -> list[str]:
    """W&B's files that hold a document's text or its summary, by name."""
    texts = []
    for word in words:
        if word.startswith("data.") and word.endswith(".jsonl"):
            lines = Path(word.partition("=")[2]).read_text().splitlines()
            items = [json.loads(line) for line in lines]
            texts += [item["document"][:40] for item in items]
            texts += [item["summary"][:20] for item in items]
    assert len(texts) > 100
    files = [file for file in sweep.glob("*/wandb/offline-run-*/**/*") if file.is_file()]
    assert files
    held = [(file.name, file.read_bytes()) for file in files]
    return [name for name, body in held if any(text.encode() in body for text in texts)]


def steps_of_media(found: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The optimizer steps at which a table or an image was logged, by its name."""
    steps: dict[str, list[int]] = {}
    for record in found:
        item = record["history"]["item"] if "history" in record else {}
        for key in item:
            if key.endswith("._type") and STEP in item:
                steps.setdefault(key.removesuffix("._type"), []).append(item[STEP])
    return steps


def test_training_logs_names_of_the_table(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    """The built-in model, on which corruption has an effect; with fewer documents no intervals."""
    others = ("logger=", "trainer.max_steps", "model.")
    given = [word for word in small_run if not word.startswith(others)]
    texts = next(word.partition("=")[2] for word in given if word.startswith("data.train="))
    done = commands.run(
        *("train", *given, *WANDB, "trainer.max_steps=2", "callbacks.schedule.points=1"),
        *(f"callbacks.watch=[{WATCHERS}]", "callbacks.probes.documents=8", "logger.samples=3"),
        *("callbacks.circuit.documents=8", "callbacks.circuit.resamples=10", "run.name=r"),
        *(f"kl_penalty.texts={texts}", "kl_penalty.documents=9"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.output
    logged = records(tmp_path / "runs/s/r")
    status = json.loads((tmp_path / "runs/s/r/status.json").read_text())
    assert status["wandb_names"] == NAMES
    names = logged_names(logged)
    for kind, some in names.items():
        assert not [name for name in some if find(name, kind) is None]
    curves = {find(name, MetricKind.curve) for name in names[MetricKind.curve]}
    wanted = {entry for entry in LOGGED if entry.kind is MetricKind.curve}
    assert {entry.name for entry in wanted - curves} == {TO_DISTRACTOR}  # known on the wire alone
    plan = layout(read_material([tmp_path / "runs/s"]), "rougeLsum_f1")
    steps = steps_of_media(logged)
    drawn = ("attention_divergence", "entropy_difference", "drift", "circuit")
    for name in (*drawn, "logit_lens", "salient_attention"):
        assert steps[f"figures/{name}"] == [0, 1, 2], "one for each place of the slider"
    assert steps["summaries/samples"] == [0, 1, 2]
    assert steps["figures/neurons"] == [2]
    files = with_text(tmp_path / "runs/s", small_run)
    assert len(files) == 3
    assert all(name.startswith("samples_") for name in files)
    lost = {name for name, entry in plan.absent.items() if entry.kind is MetricKind.curve}
    assert lost == {TO_DISTRACTOR}, "misspelt in the layout, or not logged"


# ---- all verbs


@pytest.fixture(scope="module")
def sweep(
    commands: CommandServer, small_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two training runs, and one run of every other verb that logs, in one sweep's folder."""
    folder = tmp_path_factory.mktemp("names")
    others = ("logger=", "evaluation.at_end", "model.", "data.test=")
    given = [word for word in small_run if not word.startswith(others)]
    # the built-in model, as above, and as many documents as an interval takes
    given += [f"data.test={word.partition('=')[2]}" for word in given if "data.train=" in word]
    settings = [word for word in given if word.startswith(("model.", "data"))]
    texts = next(word.partition("=")[2] for word in given if word.startswith("data.train="))
    lora = ("adaptation=lora", "adaptation.rank=2")

    def run(*words: str) -> None:
        done = commands.run(*words, cwd=folder)
        assert done.code == 0, done.output

    run(
        *("train", "-m", *given, *WANDB, *lora, "adaptation.layers=[0],all", "trainer.max_steps=4"),
        *(f"callbacks.watch=[{WATCHERS}]", "callbacks.schedule.points=0"),
        *("callbacks.probes.documents=8", "callbacks.circuit.documents=8"),
        *(f"evaluation.retention={texts}", "evaluation.retention_documents=9"),
    )
    (checkpoint,) = (folder / "runs/s").glob("*-all-*")
    at = f"checkpoint={checkpoint}"
    run("evaluate", at, *WANDB, *SMALL, "run.name=evaluated")
    run(
        "circuit",
        at,
        *WANDB,
        "circuit.documents=16",
        "data.sizes.test=24",
        "run.name=circuit",
    )
    run(
        *("compare", f"after={checkpoint}", *WANDB, "run.name=compared"),
        *("compare.items=2", "compare.parts=[mlp]", "compare.top=0", "compare.lambdas=[0.0,1.0]"),
    )
    run(
        *("select", *settings, *WANDB, "selector=page", "selector.count=1", "run.name=selected"),
        *("adaptation.rank=2", "selector.documents=8", "selector.batch_size=2"),
    )
    run("report", "runs/s", "logger=wandb", "logger.mode=offline", "against=[all]")
    return folder / "runs/s"


@pytest.fixture(scope="module")
def logged(sweep: Path) -> dict[str, list[dict[str, Any]]]:
    """Records by the name of the run's folder."""
    folders = [file.parent for file in sweep.glob("*/wandb")]
    assert len(folders) == 7
    return {folder.name: records(folder) for folder in folders}


@pytest.fixture(scope="module")
def material(sweep: Path) -> Material:
    return read_material([sweep])


@pytest.mark.slow
def test_what_is_logged_is_in_the_table(logged: dict[str, list[dict[str, Any]]]) -> None:
    for run, found in logged.items():
        for kind, names in logged_names(found).items():
            unknown = sorted(name for name in names if find(name, kind) is None)
            assert not unknown, (run, kind)


@pytest.mark.slow
def test_what_is_in_the_table_is_logged(logged: dict[str, list[dict[str, Any]]]) -> None:
    entries = [
        find(name, kind)
        for found in logged.values()
        for kind, names in logged_names(found).items()
        for name in names
    ]
    on_gpu = {"cost/mfu", "cost/device_memory"}
    silent = [entry.name for entry in LOGGED if entry not in entries]
    assert [name for name in silent if name not in on_gpu] == [TO_DISTRACTOR]


@pytest.mark.slow
def test_groups_and_job_types(logged: dict[str, list[dict[str, Any]]]) -> None:
    runs = {
        name: next(record["run"] for record in found if "run" in record)
        for name, found in logged.items()
    }
    assert {run["run_group"] for run in runs.values()} == {"s"}
    types = {run["job_type"] for run in runs.values()}
    assert types == {"train", "evaluate", "circuit", "compare", "select", "comparison"}


@pytest.mark.slow
def test_axes_can_be_grouped_by(logged: dict[str, list[dict[str, Any]]]) -> None:
    trained = [found for name, found in logged.items() if "-lora-" in name]
    axes = [settings_of(found)["sweep_axes"] for found in trained]
    assert {one["layers"] for one in axes} == {"0", "0,1,2,3,4,5"}, "what `all` stands for"
    assert {one["arm"] for one in axes} == {"layers 0", "all"}
    for one in axes:
        assert not [name for name in one if "." in name]
        assert all(not isinstance(value, (list, dict)) for value in one.values())


@pytest.mark.slow
def test_the_dashboard_knows_what_was_logged(
    logged: dict[str, list[dict[str, Any]]], material: Material
) -> None:
    for run in material.runs:
        names = logged_names(logged[run.path.name])
        for kind, claimed in run.names.items():
            assert claimed <= names[kind], (run.path.name, kind, claimed - names[kind])
        assert run.names[MetricKind.image] == names[MetricKind.image]
        assert run.names[MetricKind.table] == names[MetricKind.table]


@pytest.mark.slow
def test_every_panel_is_of_what_was_logged(
    logged: dict[str, list[dict[str, Any]]], material: Material
) -> None:
    names: dict[MetricKind, set[str]] = {kind: set() for kind in MetricKind}
    for found in logged.values():
        for kind, some in logged_names(found).items():
            names[kind] |= some
    plan = layout(material, "rougeLsum_f1")
    assert [section.title for section in plan.sections] == [
        *("Quality", "Sweep", "Arms", "Attention", "Drift", "Circuits", "Models compared")
    ]
    for section in plan.sections:
        for panel in section.panels:
            for kind, name in names_of(panel):
                assert name in names[kind], (section.title, panel)
            if isinstance(panel, CurvePanel) and panel.pattern:
                assert any(re.search(panel.pattern, name) for name in names[MetricKind.curve]), (
                    panel
                )


@pytest.mark.slow
def test_a_sweep_that_logged_all_lacks_no_panel(material: Material) -> None:
    """A name that is misspelt in the layout would be looked for in vain."""
    plan = layout(material, "rougeLsum_f1")
    absent = set(plan.absent)
    # the news has no known facts and no second event, and no model scored the summaries
    unknown = ("facts_x100", "facts_wrong_x100", "bertscore_x100", "nli_entailment_x100")
    assert absent == {TO_DISTRACTOR} | {
        name for name in absent if name.endswith(tuple(f"/{one}" for one in unknown))
    }
    assert plan.silent == []


@pytest.mark.slow
def test_texts_are_in_the_table_of_samples_alone(sweep: Path, small_run: list[str]) -> None:
    files = with_text(sweep, small_run)
    assert files
    assert all(name.startswith("samples_") for name in files)
