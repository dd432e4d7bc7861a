"""Hydra sweeper `optuna`: a search with a current Optuna, whose trials go through the launcher.

Hydra's own plugin of this name, hydra-optuna-sweeper 1.3, needs Optuna below 3. Hydra imports all
modules in `hydra_plugins` whenever it starts, so nothing heavy is imported at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

# not a dataclass: Hydra adds this module to sys.modules only after running it
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="optuna",
    node={
        "_target_": "hydra_plugins.sumcirc_optuna.OptunaSweeper",
        "n_trials": 20,
        "sampler": "tpe",
        "seed": 0,
    },
    provider="sumcirc",
)


class OptunaSweeper(Sweeper):
    """Search settings for the best value of `sweep.objective`.

    Args:
        n_trials: number of trials of each arm.
        sampler: `tpe` or `random`.
        seed: seed of the sampler.
    """

    def __init__(self, n_trials: int, sampler: str, seed: int) -> None:
        self.n_trials = n_trials
        self.sampler = sampler
        self.seed = seed

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context, the application and the configuration, and make the launcher.

        Args:
            hydra_context: loads the configuration of each job.
            task_function: the application.
            config: of the multirun.
        """
        from hydra.core.plugins import Plugins

        # Hydra declares its own three as optional
        self.hydra_context = self.context = hydra_context
        self.application: Any = task_function
        self.config = self.multirun = config
        self.launcher = self.jobs = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until every arm has had `n_trials`.

        Args:
            arguments: the overrides of the multirun.
        """
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from sumcirc.sweeps.search import Search

        loader, multirun = self.context.config_loader, self.multirun
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        plain = [str(item.input_line) for item in overrides if not item.is_sweep_override()]
        options = loader.load_sweep_config(multirun, plain).sweep
        search = Search(
            overrides,
            Path(multirun.hydra.sweep.dir),
            options.objective,
            self.sampler,
            self.seed,
            self.n_trials,
        )
        settings = {
            arm: self.application.settings(loader.load_sweep_config(multirun, [*plain, *axes]))
            for arm, axes in search.arms.items()
        }
        search.open(settings, repeats=options.retry is not None)
        number = 0
        while points := search.ask(options.jobs or len(options.gpus or [None])):
            jobs = [job for point in points for job in point.jobs]
            self.validate_batch_is_legal(jobs)
            results = self.jobs.launch(jobs, initial_job_idx=number)
            number += len(jobs)
            values = [
                result._return_value if result.status is JobStatus.COMPLETED else None
                for result in results
            ]
            search.tell(points, values)
        search.write()
