"""Hydra sweeper `checkpoints`: one job for each checkpoint, with the settings that it implies.

Hydra's own sweeper takes the product of all axes, so settings can't depend on the value of another
one. `sumcirc evaluate|circuit|compare -m checkpoint=A,B` chooses this sweeper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="checkpoints",
    node={
        "_target_": "hydra_plugins.sumcirc_checkpoints.CheckpointSweeper",
        "max_batch_size": None,
        "params": None,
    },
    provider="sumcirc",
)


class CheckpointSweeper(BasicSweeper):
    """Launch the jobs that the command line has composed."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context, the application and the configuration.

        Args:
            hydra_context: loads the configuration of each job.
            task_function: the application, which knows its jobs.
            config: of the multirun.
        """
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.application: Any = task_function

    def split_arguments(  # type: ignore[override]
        self, overrides: Any, max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return the overrides of all jobs, in batches.

        Args:
            overrides: ignored; the command line has expanded them.
            max_batch_size: largest number of jobs in a batch; None for no limit.
        """
        jobs = self.application.jobs()
        return [list(part) for part in self.split_overrides_to_chunks(jobs, max_batch_size)]
