"""A comparison's `before` is the true base, whatever an adapter or a configuration makes of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.jobs import compare
from sumcirc.models.loading import load_model
from sumcirc.models.model_pairs import Models
from sumcirc.schema import ModelConfig, configuration
from tests.support.small_models import small_config, write_model

SMALL = ("logger=none", "compare.items=2", "compare.parts=[mlp]", "compare.top=0", "sweep.name=c")


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    configuration.register()


def compared(news_files: dict[str, Path], *words: str) -> Path:
    """Compare in this process; returns the run directory."""
    data = ("data=files", f"data.test={news_files['test']}")
    config = command.compose(command.read("compare", [*data, *SMALL, *words]))[0]
    compare.check(config)
    folder = Path("runs/c") / config.run.name
    compare.run(config, folder)
    return folder


def metric(run: Path) -> dict[str, float]:
    (found,) = json.loads((run / "summary.json").read_text())["after"].values()
    return {name: one["mean"] for name, one in found["metric"].items()}


def table(run: Path, name: str) -> Any:
    (file,) = run.glob(f"compare/*/{name}.parquet")
    return pyarrow.parquet.read_table(file).to_pandas()


def adapter(base: Path, folder: Path, config: Any) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.3 * torch.randn(parameter.shape))
        model.save_pretrained(str(folder))
    return folder


def lora(**changes: Any) -> LoraConfig:
    return LoraConfig(
        r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM", **changes
    )


REWRITTEN = {
    "pissa": {"init_lora_weights": "pissa"},
    "biases": {"bias": "all"},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [*REWRITTEN, "plain"])
def test_the_receiver_is_before(
    kind: str,
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = lora(**REWRITTEN.get(kind, {}))
    folder = adapter(gpt2_folder, tmp_path / kind, config)
    with caplog.at_level(logging.WARNING):
        run = compared(news_files, f"after={folder}", "compare.analyses=[patching]")
    assert ("is not" in caplog.text and "loaded separately" in caplog.text) == (kind != "plain")
    found, moved = metric(run), table(run, "patching")
    means = moved.groupby("direction")[["receiver", "donor"]].mean()
    assert means.receiver["sufficiency"] == pytest.approx(found["before"], abs=1e-6)
    assert means.donor["sufficiency"] == pytest.approx(found["after"], abs=1e-6)
    assert means.receiver["necessity"] == pytest.approx(found["after"], abs=1e-6)
    assert means.donor["necessity"] == pytest.approx(found["before"], abs=1e-6)
    alone = compared(
        news_files, f"before={gpt2_folder}", f"after={folder}", "compare.analyses=[direct]",
        "run.name=alone",
    )  # fmt: skip
    assert metric(alone)["before"] == pytest.approx(found["before"], abs=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", REWRITTEN)
def test_delta_scaling_of_an_adapter_that_changes_its_base_is_refused(
    kind: str, gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    folder = adapter(gpt2_folder, tmp_path / kind, lora(**REWRITTEN[kind]))
    with pytest.raises(UserError, match=rf"^after={folder}: .*merge it .*compare\.analyses"):
        compared(news_files, f"after={folder}", "compare.analyses=[delta_scaling]")


def test_prompt_learning_is_refused(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    folder = adapter(gpt2_folder, tmp_path / "prefix", config)
    with pytest.raises(UserError, match=r"PREFIX_TUNING.* virtual tokens .*sumcirc evaluate"):
        compared(news_files, f"after={folder}", "compare.analyses=[direct]")


# ---- configurations

CHANGES: dict[str, dict[str, Any]] = {
    "sliding_window": {"sliding_window": 4},
    "rope_parameters": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
    "rms_norm_eps": {"rms_norm_eps": 0.1},
    "hidden_act": {"hidden_act": "gelu"},
}


def pair(tokenizer: Any, folder: Path, changes: dict[str, Any]) -> tuple[Path, Path]:
    """Two Mistrals with the same weights; the second's configuration is changed."""
    found = []
    for name, own in (("one", {"sliding_window": None}), ("other", {**changes})):
        given = {"sliding_window": None, **own}
        found.append(write_model(folder / name, small_config("mistral", **given), tokenizer))
    weights = [load_model(ModelConfig(name="m", path=str(one))).state_dict() for one in found]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return found[0], found[1]


@pytest.mark.parametrize("name", CHANGES)
def test_delta_scaling_of_another_configuration_is_refused(
    name: str, tokenizer: Any, news_files: dict[str, Path], tmp_path: Path
) -> None:
    one, other = pair(tokenizer, tmp_path, CHANGES[name])
    told = "leave delta_scaling, path and masks out"
    refusal = rf"^after={other}: its configuration differs .*\({name} .*{told}"
    with pytest.raises(UserError, match=refusal):
        compared(news_files, f"before={one}", f"after={other}", "compare.analyses=[delta_scaling]")


@pytest.mark.parametrize("name", CHANGES)
def test_another_configuration_is_told_and_compared(
    name: str,
    tokenizer: Any,
    news_files: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, other = pair(tokenizer, tmp_path, CHANGES[name])
    words = [f"before={one}", f"after={other}", "compare.analyses=[patching]"]
    with caplog.at_level(logging.WARNING):
        run = compared(news_files, *words)
    assert f"its configuration differs from that of the model before: {name}" in caplog.text
    found, moved = metric(run), table(run, "patching")
    receiver = moved[moved.direction == "sufficiency"].receiver.mean()
    assert receiver == pytest.approx(found["before"], abs=1e-6)
    assert found["before"] != pytest.approx(found["after"], abs=1e-6)


def test_a_window_wider_than_every_text_is_none(
    tokenizer: Any, news_files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = pair(tokenizer, tmp_path, {"sliding_window": 127})
    words = (f"before={one}", f"after={other}", "compare.lambdas=[0.0,1.0]")
    with caplog.at_level(logging.WARNING):
        analyses = "compare.analyses=[delta_scaling,differences]"
        run = compared(news_files, *words, analyses, "encoding.max_length=100")
    assert "its configuration differs" not in caplog.text
    found = metric(run)
    assert found["before"] == found["after"]


def test_attention_over_other_windows_has_no_divergence(
    tokenizer: Any, news_files: dict[str, Path], tmp_path: Path
) -> None:
    one, other = pair(tokenizer, tmp_path, CHANGES["sliding_window"])
    words = (f"before={one}", f"after={other}", "compare.analyses=[differences]")
    with pytest.raises(UserError, match=r"sliding_window None and 4.*leave differences out"):
        compared(news_files, *words)


def test_a_change_that_no_setting_tells_is_found_by_its_logits(
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scaled to 0 the model has to be the one before, or surgery does not begin."""
    folder = adapter(gpt2_folder, tmp_path / "plain", lora())
    words = (f"after={folder}", "compare.analyses=[delta_scaling]", "compare.lambdas=[0.0,1.0]")
    run = compared(news_files, *words)
    arms = table(run, "surgery")
    whole = arms[arms.arm == "whole"].groupby("amount").metric.mean()
    found = metric(run)
    np.testing.assert_allclose(whole[[0.0, 1.0]], [found["before"], found["after"]], atol=1e-6)
    monkeypatch.setattr(Models, "stands_for", lambda *given: False)
    with pytest.raises(UserError, match="with its change scaled to 0 it differs from"):
        compared(news_files, *words, f"before={gpt2_folder}", "run.name=again")
