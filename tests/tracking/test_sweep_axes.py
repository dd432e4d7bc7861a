"""Where a run stands in its sweep, as W&B can group by it."""

from __future__ import annotations

import pytest

from sumcirc.tracking.sweep_axes import arm_label, sweep_axes
from tests.support.sweeps import config


def test_names_have_no_dots_and_values_are_plain() -> None:
    swept = {"trainer.max_steps": 5, "adaptation.layers": "0,1", "selector": "page", "seed": 2}
    found = sweep_axes(config([0, 1], 2, run__axes=swept))
    assert found["trainer_max_steps"] == 5
    assert not [name for name in found if "." in name]
    assert "adaptation_layers" not in found
    assert found["layers"] == "0,1"
    assert not [value for value in found.values() if isinstance(value, (list, dict))]


def test_a_verb_that_trains_nothing_has_what_is_swept() -> None:
    settings = {"run": {"axes": {"seed": 3, "circuit.method": "eap"}}}
    assert sweep_axes(settings) == {"seed": 3, "circuit_method": "eap"}


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        (config("full"), "full"),
        (config("all"), "all"),
        (config([2, 3, 5]), "layers 2,3,5"),
        (config(selector="random"), "random"),
        (config(selector="fixed", selector__preset="paper"), "paper"),
        (config([2, 3], adaptation__variant="dora"), "layers 2,3 variant=dora"),
        (config("all", data__permute_summaries=1), "all permute_summaries=1"),
        (config("full", data__permute_summaries=0), "full permute_summaries=0"),
    ],
)
def test_what_an_arm_is_called(settings: dict[str, object], label: str) -> None:
    assert arm_label(settings) == label
    assert sweep_axes(settings)["arm"] == label
