"""Starting this program again: the jobs of a sweep, and the processes of distributed training.

Distributed training runs the command once per device. The processes cooperate in training; what
belongs to the run as a whole (its directory, its scores, W&B) is done by the first one only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from sumcirc.schema.configuration import quoted

# set by Lightning for the processes it starts
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")

# number of processes that torchrun and srun started for this one run
STARTED_TOGETHER = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def program() -> tuple[str, ...]:
    """Return the words of a command that starts this program again, without its arguments.

    The new process imports modules from the current folder only if this process does, so that a
    file such as `datasets.py` in the user's folder can't replace a library in only one of them.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    as_module = spec is not None and spec.name == "sumcirc.__main__"
    safe_path = sys.flags.safe_path or not as_module
    return (sys.executable, *(["-P"] if safe_path else []), "-m", "sumcirc")


def started_together() -> str | None:
    """Return `VARIABLE=NUMBER` if torchrun or srun started several processes for this run.

    VARIABLE is the environment variable with their number. None is returned for one process.
    """
    for name in STARTED_TOGETHER:
        number = os.environ.get(name, "")
        if number.isdecimal() and int(number) > 1:
            return f"{name}={number}"
    return None


def is_main_process() -> bool:
    """Return whether this is the first or only process of the run."""
    from pytorch_lightning.utilities import rank_zero_only

    first_node = os.environ.get("NODE_RANK", "0") == "0"
    return bool(rank_zero_only.rank == 0 and first_node)


@contextmanager
def distributed() -> Iterator[None]:
    """Make Lightning start further processes of distributed training as `sumcirc` commands.

    In the `with` block, further processes get the arguments in `sys.argv`. Lightning by itself
    would start the module with which the interpreter was started, which may be another program.

    On exit the process group is destroyed, and the environment variables that Lightning sets are
    restored, since the next job of a multirun would otherwise take itself for a further process.
    """
    import torch.distributed
    from pytorch_lightning.strategies.launchers import subprocess_script

    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        # raises AttributeError if another version of Lightning has no such function
        with patch.object(subprocess_script, "_hydra_subprocess_cmd", _further_process):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _further_process(local_rank: int) -> tuple[list[str], str]:
    """Return the command of one further process and the folder that it starts in."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import get_original_cwd

    folder = HydraConfig.get().runtime.output_dir
    return [*program(), *sys.argv[1:], f"hydra.run.dir={quoted(folder)}"], get_original_cwd()
