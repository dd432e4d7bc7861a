"""What a command says before the libraries are loaded."""

from __future__ import annotations

import pytest

from tests.test_imports import FORBIDDEN, loaded

WORDS = {
    "train": ["logger=none"],
    "evaluate": ["logger=none"],
    "circuit": ["logger=none"],
    "compare": ["before=some/where", "after=other/place", "logger=none"],
    "select": ["selector=first", "logger=none"],
    "pairs": ["out=pairs.jsonl"],
    "report": ["somewhere"],
}


@pytest.mark.parametrize("verb", WORDS)
def test_a_command_says_that_it_starts_before_torch_is_imported(verb: str) -> None:
    code = f"""
import sumcirc.cli.main as cli
told = []
def say(text, error=False):
    told.append(text)
    raise KeyboardInterrupt
cli.say = say
try:
    cli.launch({verb!r}, {WORDS[verb]!r})
except KeyboardInterrupt:
    pass
assert told and told[0].startswith({verb + ": loads libraries"!r}), told
"""
    found = loaded(code)
    assert not found & FORBIDDEN
