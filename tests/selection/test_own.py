"""A selector of the user's: what it finds is chosen by, and what can't be is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sumcirc.errors import UserError
from sumcirc.schema import Granularity, SelectorConfig, SelectorName
from sumcirc.schema.configuration import register
from sumcirc.selection.choosing import adapter_facts, check_selection, select
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config

MODULE = "rules_of_mine"
RULES = """
import numpy as np
import torch

from sumcirc.selection.scores import Scores, rule

def loudest(evidence):
    sizes = [
        [[block.attn_out.weight.detach().float().norm().item()]] for block in evidence.hooked.blocks
    ]
    return Scores(np.array(sizes), "its output projection is largest")

def by_module(evidence):
    return rule(np.arange(evidence.layers * 4).reshape(-1, 4), "counted")

def drawn(evidence):
    return rule(torch.rand(evidence.layers).numpy(), "drawn")

def tuned(evidence):
    change = evidence.tuned_record("drift").values["residual/relative_change"]
    return Scores(np.diff(change, axis=0)[:, None], "departs", "", "documents")

def nothing(evidence):
    return [1, 2]

def too_few(evidence):
    return rule([1.0], "one")

def undefined(evidence):
    return rule([float("nan")] * evidence.layers, "nan")
"""


@pytest.fixture(autouse=True)
def _rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(RULES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SUMCIRC_NAMESPACES", MODULE)
    yield
    sys.modules.pop(MODULE, None)


def own(
    function: str,
    model: Path,
    files: dict[str, Path],
    folder: Path,
    adaptation: dict[str, Any] | None = None,
    **selector: Any,
) -> Any:
    score = f"{MODULE}.{function}"
    return selecting(model, files, folder, "own", adaptation, score=score, **selector)


def test_the_layer_that_it_scores_highest_is_chosen(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = own("loudest", gpt2_folder, news_files, tmp_path, count=1)
    check_selection(config, small_config("gpt2"))
    looked_at = evidence(config)
    with torch.no_grad():
        looked_at.hooked.blocks[1].attn_out.weight.mul_(3)
    found = select(looked_at)
    assert found.layers == [1]
    assert found.ranking[0].score > 2 * found.ranking[1].score
    assert found.selector == f"{MODULE}.loudest"
    facts = adapter_facts(config.adaptation, looked_at.model.config, found)["adapter"]
    assert facts["selector"] == f"{MODULE}.loudest"
    # its scores are those of today's code
    with torch.no_grad():
        looked_at.hooked.blocks[0].attn_out.weight.mul_(10)
    assert select(looked_at).layers == [0]


def test_it_may_tell_modules_apart_and_compare_with_a_tuned_model(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    modules = {"granularity": Granularity.module}
    config = own("by_module", gpt2_folder, news_files, tmp_path, modules, count=2)
    assert select(evidence(config)).targets == [(1, "mlp_out"), (1, "mlp_in")]
    found = select(evidence(own("tuned", gpt2_folder, news_files, tmp_path)))
    assert found.size == 8
    assert found.stability is not None


def test_its_draws_are_not_the_runs(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    looked_at = evidence(own("drawn", gpt2_folder, news_files, tmp_path))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    select(looked_at)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("function", "adaptation", "part"),
    [
        ("nothing", {}, "gave a list; return a `Scores`"),
        ("too_few", {}, "of shape [1, 1, 1]; return [2 layers"),
        ("undefined", {}, "NaN or infinite"),
        ("loudest", {"granularity": Granularity.module}, "scores whole layers"),
    ],
)
def test_what_nothing_can_be_chosen_by_is_refused(
    function: str,
    adaptation: dict[str, Any],
    part: str,
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    config = own(function, gpt2_folder, news_files, tmp_path, adaptation)
    with pytest.raises(UserError, match=rf"^selector\.score={MODULE}\.{function}: ") as refused:
        select(evidence(config))
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_mistakes_are_refused_before_a_model_is_loaded(
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = own("loudest", gpt2_folder, news_files, tmp_path)
    for score, part in (
        (None, "selector=own: name your function with selector.score=MODULE.FUNCTION"),
        (f"{MODULE}.missing", "can't be found"),
        ("os.system", "SUMCIRC_NAMESPACES"),
    ):
        wrong = replace(config, selector=replace(config.selector, score=score))
        with pytest.raises(UserError) as refused:
            check_selection(wrong, small_config("gpt2"))
        assert part in str(refused.value)
    with pytest.raises(
        UserError, match=r"selector\.score=a\.b: is for selector=own, not for .*page"
    ):
        SelectorConfig(name=SelectorName.page, score="a.b")
    monkeypatch.delenv("SUMCIRC_NAMESPACES")
    with pytest.raises(UserError, match="SUMCIRC_NAMESPACES"):
        check_selection(config, small_config("gpt2"))


def test_without_a_tuned_model_it_is_told_how_to_get_one(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = own("tuned", gpt2_folder, news_files, tmp_path, probe_steps=0)
    with pytest.raises(UserError, match=r"selector=own: .*selector\.probe_steps=50"):
        select(evidence(config))


def test_a_folder_of_configurations_names_it(tmp_path: Path) -> None:
    """As one arm among others, and with its function in the run's name."""
    from sumcirc.cli import command

    register()
    (tmp_path / "mine" / "selector").mkdir(parents=True)
    (tmp_path / "mine" / "selector" / "loudest.yaml").write_text(
        f"name: own\nscore: {MODULE}.loudest\n"
    )
    words = ["--config-dir", str(tmp_path / "mine"), "adaptation=lora", "selector=loudest"]
    config = command.compose(command.read("train", words))[0]
    assert config.selector.score == f"{MODULE}.loudest"
    assert config.run.name == f"tiny-wire-lora-{MODULE}.loudest-r16-s1"
