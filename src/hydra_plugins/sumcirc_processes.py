"""Hydra launcher `processes`, the default of `sumcirc VERB -m`: runs each job in its own process.

Hydra accepts launchers only from the namespace `hydra_plugins` and imports all modules in it
whenever it starts, so nothing heavy is imported at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


# not a dataclass: Hydra adds this module to sys.modules only after running it
ConfigStore.instance().store(
    group="hydra/launcher",
    name="processes",
    node={"_target_": "hydra_plugins.sumcirc_processes.ProcessLauncher"},
    provider="sumcirc",
)


class ProcessLauncher(Launcher):
    """Pass the jobs of a multirun to sumcirc's pool of processes."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context, the application and the configuration.

        Args:
            hydra_context: loads the configuration of each job.
            task_function: the application.
            config: of the multirun.
        """
        self.context = hydra_context
        self.application: Any = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run one batch of jobs; their results are in the run directories.

        Hydra ends a sweep at the first batch with a failure, so every job is reported as completed.

        Args:
            job_overrides: overrides of each job.
            initial_job_idx: number of the first job.
        """
        from hydra.core.utils import setup_globals
        from omegaconf import open_dict

        from sumcirc.sweeps.pool import run_jobs

        setup_globals()
        jobs, places = [], [None]
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            job, places = self.application.job(config)
            jobs.append(job)
        run_jobs(jobs, places)
        # the value that a sweeper optimizes; None for a failed run, and in other sweeps
        values = [self.application.objective(job.folder) for job in jobs]
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]
