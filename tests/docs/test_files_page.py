"""docs/reference/files.md beside what the verbs write: every file, key and type, both ways."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from sumcirc.tracking.measure_records import MEASURES
from tests.support.files_page import (
    OTHERS,
    SECTIONS,
    WORDS,
    Leaf,
    arrays_in,
    content,
    fits,
    leaves,
    pattern,
    rows_of,
)
from tests.support.scoring_models import classifier_folder, encoder_folder

if TYPE_CHECKING:
    from tests.support.command_server import CommandServer

# written when something goes wrong, or by W&B
NOT_HERE = {"traceback.txt", "wandb/"}
NOT_HERE |= {"csv/metrics.csv", "tensorboard/"}  # of tests/journeys/test_loggers.py
# of a search, which tests/cli/test_search.py runs
NOT_HERE |= {"optuna.db", "search.json", *(f"search/trials.{one}" for one in ("png", "pdf", "csv"))}

# keys that tests/journeys/test_names.py and test_loggers.py look at
WITH_WANDB = {"wandb_names", "mlflow_run"}
# keys that only a run on a GPU has
ON_GPU = {"cost.device_memory", "cost.mfu"}
# key of two equal models, which tests/journeys/test_compare.py compares
WITHOUT_CHANGE = {"after.NAME.path.left_out", "after.NAME.masks.left_out"}


def test_the_page_is_read() -> None:
    assert {"summary.json", "metrics.csv", "probes/step-STEP.safetensors"} <= {
        one.path for one in SECTIONS
    }
    assert all(rows_of(one) for one in SECTIONS)
    assert {value for one in SECTIONS for value in one.rows.values()} <= WORDS
    assert {"log.txt", "lora_config.py", "multirun.yaml"} <= OTHERS


@pytest.mark.parametrize(
    ("leaf", "key", "value", "fitting"),
    [
        ((("a", "b"), 1), "a.b", "integer", True),
        ((("a", "b"), 1.5), "a.b", "integer", False),
        ((("a", "b"), True), "a.b", "integer", False),
        ((("a", "b"), None), "a.b", "integer", True),
        ((("a", "c"), 1), "a.b", "integer", False),
        ((("a", "c"), 1), "a.NAME", "integer", True),
        ((("a", "c", "d"), 1), "a.NAME", "integer", False),
        ((("a", "c", "d"), 1), "a", "anything", True),
        ((("a", "low"), 1.0), "a", "interval", True),
        ((("a", "middle"), 1.0), "a", "interval", False),
        ((("a", "n"), 1), "a", "bounds", False),
        ((("a",), 1.0), "a", "interval", False),
        ((("[]", "a"), "x"), "a", "text", True),
        ((("[]", "a"), "x"), "[].a", "text", True),
        ((("a", "[]"), 1), "a[]", "integer", True),
        ((("a",), []), "a[]", "integer", True),
        ((("a",), []), "b[]", "integer", False),
        ((("other", "x"), 1), "RANKING.x", "integer", False),
    ],
)
def test_rows_and_leaves(leaf: Leaf, key: str, value: str, fitting: bool) -> None:
    assert fits(leaf, key, value) is fitting


SMALL = [
    *("logger=none", "trainer.threads=1"),
    *("data.sizes.train=16", "data.sizes.validation=3", "data.sizes.test=4"),
]
SCORED = [*SMALL, "generation.max_new_tokens=8", "evaluation.bootstrap=100"]
TRAINED = [*SCORED, "trainer.batch_size=4", "trainer.max_steps=2", "trainer.validate_every=1"]
TRAINED += ["callbacks.progress=false"]
# slow enough that two steps surely help on every document, so that masks have a gain to divide
TRAINED += ["model.learning_rate=1e-4"]
CIRCUIT = ["documents=4", "resamples=5", "sizes=[0.01,1.0]", "random_circuits=1"]
WATCHERS = "attention_entropy,base_divergence,activation_drift,summary_quality,circuit_tracker"
WATCHERS += ",logit_lens,salient_attention"
FULL, LORA = "runs/arms/tiny-wire-full-s1", "runs/arms/tiny-wire-lora-all-r16-s1"
COMMANDS = [
    [
        "train",
        "-m",
        *TRAINED,
        "callbacks=none",
        "sweep.name=arms",
        "adaptation=full,lora,adalora,pissa",
        "evaluation.retention=texts.jsonl",
        *("trainer.checkpoint_every=1", "trainer.keep_checkpoints=-1"),
    ],
    [
        *("train", *TRAINED, "sweep.name=watched", f"callbacks.watch=[{WATCHERS}]"),
        *("callbacks.probes.documents=3", "callbacks.schedule.points=0"),
        *(f"callbacks.circuit.{word}" for word in CIRCUIT),
        *("adaptation=lora", "adaptation.budget=98304", "selector=page", "selector.documents=4"),
        "export.merge=true",
    ],
    [
        *("evaluate", "checkpoint=runs/arms", *SCORED, "sweep.name=evaluated"),
        *("evaluation.bertscore=./encoder", "evaluation.nli=./classifier"),
    ],
    [
        *("circuit", f"checkpoint={FULL}", "against=base", *SMALL, "sweep.name=circuit"),
        *(f"circuit.{word}" for word in CIRCUIT),
        "circuit.by_span=true",
    ],
    [
        *("select", *SMALL, "sweep.name=selected", "selector=page", "selector.documents=4"),
        "adaptation.budget=98304",
    ],
    [
        *("compare", f"after=[{FULL},{LORA}]", *SMALL, "sweep.name=compared", "compare.items=2"),
        *("compare.random_sets=1", "compare.top=2", "compare.lambdas=[1]"),
        *("compare.parts=[output,mlp]", "compare.path.trajectory=true"),
        "compare.path.edges=true",
    ],
    [
        *("compare", f"after={FULL}", *SMALL, "sweep.name=masked", "compare.analyses=[masks]"),
        *("compare.items=16", "data.sizes.test=16", "compare.masks.steps=1"),
        *("compare.masks.grain=layer", "compare.masks.random=1", "compare.masks.retention=true"),
    ],
    ["pairs", *SMALL[1:2], "data.sizes.test=3", "out=pairs.jsonl", "filter=false"],
    [
        *("pairs", *SMALL[1:2], "data.sizes.test=3", "out=swapped.jsonl", "filter=false"),
        "corruption=swap",
    ],
    ["train", f"resume={LORA}", "trainer.max_steps=3", "trainer.extension=constant"],
    ["report", "runs/arms", "logger=none"],
    ["report", "runs/watched", "logger=none"],
    ["report", FULL, "logger=none"],
    ["report", "evaluated", "logger=none"],
]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, commands: CommandServer
) -> list[tuple[Path, str, str | None]]:
    """Every file that the verbs wrote, its path as the page gives it, and the verb."""
    place = tmp_path_factory.mktemp("written")
    texts = [
        json.dumps({"document": f"A text, number {i}, of eleven words or so."}) for i in range(9)
    ]
    (place / "texts.jsonl").write_text("\n".join(texts))
    encoder_folder(place / "encoder")
    classifier_folder(place / "classifier")
    for words in COMMANDS:
        done = commands.run(*words, cwd=place)
        assert done.code == 0, done.output
    found: list[tuple[Path, str, str | None]] = [
        (place / name, "pairs.jsonl", None) for name in ("pairs.jsonl", "swapped.jsonl")
    ]
    for sweep in (place / "runs").iterdir():
        runs = {file.parent for file in sweep.glob("*/config.yaml")}
        for file in sorted(path for path in sweep.rglob("*") if path.is_file()):
            run = next((run for run in runs if file.is_relative_to(run)), None)
            verb = yaml.safe_load((run / "config.yaml").read_text())["verb"] if run else None
            found.append((file, file.relative_to(run or sweep).as_posix(), verb))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_file_and_key_is_on_the_page_and_the_reverse(
    written: list[tuple[Path, str, str | None]],
) -> None:
    measures = set[str]()
    unknown, others = [], set[str]()
    for file, path, verb in written:
        sections = [one for one in SECTIONS if one.matches(path, verb)]
        named = {name for name in OTHERS if re.fullmatch(pattern(name), path)}
        others |= named
        if not sections and not named:
            unknown.append(f"{path} of {verb}")
        for section in sections:
            section.seen.add("")
            for leaf in leaves(content(file)):
                rows = [key for key, value in rows_of(section).items() if fits(leaf, key, value)]
                section.seen |= set(rows)
                if not rows:
                    unknown.append(f"{path} of {verb}: {leaf}")
        if path.startswith("probes/step-"):
            measures |= arrays_in(file) if file.suffix == ".safetensors" else set()
    assert not unknown
    idle = {
        f"{one.path} {one.verbs or ''}: {key}"
        for one in SECTIONS
        for key in ["", *one.rows]
        if key not in one.seen | WITH_WANDB | ON_GPU | WITHOUT_CHANGE
    }
    assert not idle
    assert measures == set(MEASURES)
    assert others == OTHERS - NOT_HERE
