"""Places at which a job kills itself with SIGKILL, as a machine would.

The counts belong to a run of 12 steps with 2 batches each, a log line every 2 steps, a validation
(3 batches) every 4, and a checkpoint every 5; step 0 is validated and logged too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def die() -> None:
    """End this process at once; nothing is flushed, closed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(owner: Any, name: str, number: int, after: bool = False) -> None:
    """Die before (or after) the `number`-th call of `owner.name`."""
    original = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            die()
        result = original(*arguments, **options)
        if calls == number:
            die()
        return result

    setattr(owner, name, counted)


def before_first_checkpoint() -> None:
    from sumcirc.training.module import SummarizationModule

    at_call(SummarizationModule, "training_step", 6)


def mid_step() -> None:
    """Between the two batches of step 8."""
    from sumcirc.training.module import SummarizationModule

    at_call(SummarizationModule, "training_step", 16)


def checkpoint_written() -> None:
    """The checkpoint of step 5 is there, the next line of metrics.csv is not."""
    from sumcirc.training.checkpoint import ResumableCheckpoint

    at_call(ResumableCheckpoint, "save", 1, after=True)


def checkpoint_half_written() -> None:
    """Half of the bytes of step 10's checkpoint are on disk, under the temporary name."""
    import torch

    original = torch.save
    calls = 0

    def half(value: Any, file: Any) -> None:
        nonlocal calls
        calls += 1
        original(value, file)
        if calls == 2:
            file.flush()
            os.ftruncate(file.fileno(), file.tell() // 2)
            die()

    torch.save = half


def checkpoint_before_rename() -> None:
    """Step 10's checkpoint is complete but still has its temporary name."""
    original = os.replace

    def replace(source: Any, target: Any) -> None:
        if str(target).endswith("step-000010.ckpt"):
            die()
        original(source, target)

    os.replace = replace


def checkpoint_before_removal() -> None:
    """Step 10's checkpoint is there, and step 5's has not been removed yet."""
    original = Path.unlink

    def unlink(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == "step-000005.ckpt":
            die()
        original(path, *arguments, **options)

    Path.unlink = unlink  # type: ignore[method-assign]


def validation() -> None:
    """In the second batch of the validation of step 8."""
    from sumcirc.training.module import SummarizationModule

    at_call(SummarizationModule, "validation_step", 8)


def line_logged() -> None:
    """Right after the training values of step 6, behind the checkpoint of step 5."""
    from sumcirc.storage.writing import MetricsFile

    at_call(MetricsFile, "append", 5, after=True)


def line_torn() -> None:
    """The last line of step 8's values is cut in the middle."""
    from sumcirc.storage.writing import MetricsFile

    original = MetricsFile.append
    calls = 0

    def append(file: MetricsFile, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        original(file, *arguments)
        if calls == 6:
            os.truncate(file.path, file.size - 9)
            die()

    MetricsFile.append = append  # type: ignore[method-assign]


def last_checkpoint_written() -> None:
    from sumcirc.training.checkpoint import ResumableCheckpoint

    at_call(ResumableCheckpoint, "save", 3, after=True)


def before_weights_are_saved() -> None:
    from sumcirc.models import saving

    at_call(saving, "save_trained", 1)


def final_evaluation() -> None:
    """While the trained model's summaries are made."""
    from sumcirc.evaluation import summaries as scoring

    at_call(scoring, "summarize", 1)


def path_attributed() -> None:
    """`sumcirc compare` has attributed the gain along the change, and nothing after it."""
    from sumcirc.compare import run

    at_call(run, "attribute_path", 1, after=True)


def disk_full() -> None:
    """No file may grow beyond 20 kB while step 10's checkpoint is written (this kills nothing)."""
    import resource

    import torch

    original = torch.save
    calls = 0

    def save(value: Any, file: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        original(value, file)

    torch.save = save


POINTS: dict[str, Callable[[], None]] = {
    point.__name__: point
    for point in (
        before_first_checkpoint,
        mid_step,
        checkpoint_written,
        checkpoint_half_written,
        checkpoint_before_rename,
        checkpoint_before_removal,
        validation,
        line_logged,
        line_torn,
        last_checkpoint_written,
        before_weights_are_saved,
        final_evaluation,
    )
}
FAULTS = {**POINTS, "disk_full": disk_full, "path_attributed": path_attributed}
