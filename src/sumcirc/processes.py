"""One run in several processes: Lightning starts the others by running the command again.

They meet the first one in training. What belongs to the run as a whole (its directory, its scores,
W&B) is the first one's alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities import rank_zero_only

# set by Lightning for the processes it starts
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


def is_main_process() -> bool:
    """Whether this is the first process of the run; true where there is only one."""
    first_node = os.environ.get("NODE_RANK", "0") == "0"
    return bool(rank_zero_only.rank == 0 and first_node)


@contextmanager
def distributed() -> Iterator[None]:
    """A block that Lightning may run in several processes.

    It ends without a process group, and with the environment as it was: by it the next job of a
    multirun would take itself for a process that was started already.
    """
    import torch.distributed

    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
