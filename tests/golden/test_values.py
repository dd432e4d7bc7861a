"""The comparison of all numbers before and after a change finds a change, and its commands run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sumcirc.cli.without_effect import check_effect
from sumcirc.cli.words import parse
from tests.golden.values import ARCHITECTURES, commands, differs, reduced


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_setting_of_its_commands_has_an_effect(family: str, tmp_path: Path) -> None:
    found = list(commands(tmp_path, family))
    assert len({name for name, _ in found}) == len(found)
    assert {words[0] for _, words in found} >= {"train", "circuit", "compare", "select"}
    for _, (verb, *words) in found:
        parsed = {item.key_or_group: item for item in parse(words)}
        assert len(parsed) > 5
        check_effect(verb, parsed, {})


def test_a_change_of_one_number_is_found_and_rounding_is_not() -> None:
    values = np.random.default_rng(0).normal(size=50)
    values[7] *= 1e-5
    stored = reduced(values)
    assert not differs(stored, reduced(values * (1 + 1e-14)))
    for change in (1e-6, -1e-3):
        changed = values.copy()
        changed[7] *= 1 + change  # small beside the others
        assert differs(stored, reduced(changed))
    assert differs(stored, reduced(values[::-1]))
    assert differs(stored, reduced(np.where(np.arange(50) == 3, np.nan, values)))
    assert differs(stored, reduced(values[:-1]))
