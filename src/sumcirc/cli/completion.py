"""Tab completion of verbs and settings."""

from __future__ import annotations

import os
import sys

from sumcirc.cli.dry_running import WORD, is_dry_run
from sumcirc.cli.verbs import READERS, VERBS
from sumcirc.runtime.terminal import say


def complete_line(arguments: list[str]) -> None:
    """Answer `sumcirc --shell-completion`, which a shell runs when the user presses Tab.

    Hydra completes settings but doesn't know the verbs. The verb is therefore completed here, and
    removed from the line before Hydra completes the rest.

    Args:
        arguments: the words after `sumcirc`, with `query=bash` or `install=bash`.
    """
    import hydra

    from sumcirc.cli import command
    from sumcirc.schema import configuration

    words = os.environ.get("COMP_LINE", "").split(maxsplit=2)
    asks = any(word.startswith("query=") for word in arguments)
    verb = words[1] if len(words) > 1 else ""
    if asks and verb not in VERBS:  # the words of a verb without overrides can't be completed
        say(" ".join(name for name in VERBS | READERS if name.startswith(verb)))
        return
    if asks:
        rest = words[2] if len(words) > 2 else ""
        *before, last = rest.split(" ")
        if verb == "train" and f"{WORD}=true".startswith(last):
            say(f"{WORD}=true")
        kept = [word for word in before if not is_dry_run(word)]
        os.environ["COMP_LINE"] = f"sumcirc {' '.join([*kept, last])}"
    configuration.register()
    typed_argv, sys.argv = sys.argv, ["sumcirc", *arguments]
    name = verb if asks else next(iter(VERBS))
    try:
        hydra.main(version_base="1.3", config_path=str(command.CONF), config_name=name)(print)()
    finally:
        sys.argv = typed_argv
