"""Sweeps in which all adapters shall have the same number of parameters, on the built-in model."""

from __future__ import annotations

from typing import Any

import pytest

from sumcirc.cli import command
from sumcirc.errors import UserError
from sumcirc.jobs.train import check_together
from sumcirc.models.adapters import adapter_size, resolve_targets
from sumcirc.models.loading import read_model_config
from sumcirc.schema import configuration

TRIPLE = "adaptation.layers=[0,1,2],all"
SMALLEST = 6 * 2048  # rank 1 on all layers: 128 x (384, 128, 512, 512) each


def composed(*words: str) -> list[Any]:
    configuration.register()
    given = command.read("train", ["-m", "experiment=placement_tiny", *words])
    return command.compose(given)


@pytest.fixture(autouse=True)
def cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUMCIRC_CACHE", str(tmp_path))


def test_the_experiment_uses_its_budget_in_full() -> None:
    configs = composed("adaptation.layers=[0,1,2],[1,3,5],all", "seed=1,2")
    check_together(configs)
    model = read_model_config(configs[0].model)
    for config in configs:
        assert resolve_targets(config.adaptation, model).parameters == 98304


def test_the_smallest_budget_is_named_and_works() -> None:
    model = read_model_config(composed(TRIPLE)[0].model)
    least = [adapter_size(one.adaptation, model).least for one in composed(TRIPLE)]
    with pytest.raises(UserError) as caught:
        check_together(composed(TRIPLE, "adaptation.budget=5000"))
    message = str(caught.value)
    assert message.startswith("adaptation.budget=5000: adaptation.layers=[0,1,2]")
    assert f"the smallest budget that works for all 2 arms is {max(least)}" in message
    check_together(composed(TRIPLE, f"adaptation.budget={max(least)}"))
    with pytest.raises(UserError, match=f"takes {max(least)} parameters with rank 1"):
        check_together(composed(TRIPLE, f"adaptation.budget={max(least) - 1}"))


def test_a_budget_that_a_narrow_module_cannot_take_is_refused() -> None:
    modules = "adaptation.modules=[attn_out],[qkv]"
    words = "adaptation.layers=[2]", modules, "adaptation.budget=98304"
    with pytest.raises(UserError, match=r"would need rank 384 on .*c_proj, whose weight has full"):
        check_together(composed(*words))
    check_together(composed("adaptation.layers=[2]", modules, "adaptation.budget=24576"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("adaptation=full,lora", "adaptation.budget=null"), "adaptation=full has no adapter"),
        ((TRIPLE, "adaptation.budget=null", "adaptation.rank=4"), "has no budget"),
        ((TRIPLE, "adaptation.budget=98304,49152"), "has the budgets 49152, 98304"),
        (("adaptation.layers=[0,1,6],all",), "layer 6"),
    ],
)
def test_sweeps_without_one_budget_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_together(composed(*words))


def test_selectors_are_checked_by_the_most_expensive_choice() -> None:
    words = "selector=random,page", "selector.count=3"
    check_together(composed(*words))
    with pytest.raises(UserError, match=r"selector=random .* smallest budget"):
        check_together(composed(*words, "adaptation.budget=100"))


@pytest.mark.parametrize(
    ("words", "budget", "message"),
    [
        (("selector=page", "selector.count=2,1"), 300000, r"selector\.count=1 .* full rank"),
        (
            ("selector=page", "selector.count=1", "adaptation.granularity=layer,module"),
            98304,
            r"selector\.count=1 adaptation\.granularity=module .* full rank",
        ),
        (
            ("adaptation=lora,dora", "adaptation.layers=[2]"),
            2048,
            "adaptation=dora .* takes 3200 parameters with rank 1",
        ),
    ],
)
def test_each_arm_is_checked_whatever_tells_it_apart(
    words: tuple[str, ...], budget: int, message: str
) -> None:
    """The first of the two arms can use the budget, the second can't."""
    configs = composed(*words, f"adaptation.budget={budget}")
    check_together(configs[:1])
    with pytest.raises(UserError, match=message):
        check_together(configs)


def test_without_the_setting_nothing_is_checked() -> None:
    check_together(composed("adaptation=full", "adaptation.budget=null", "sweep.same_budget=false"))
