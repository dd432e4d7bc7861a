"""Search for settings with Optuna: one study for each arm, in which trials are runs of a sweep.

Settings with a range (`interval(...)`, `range(...)`, `choice(...)`) are searched. Settings with
comma-separated values span arms, each of which gets a study of its own; `seed=1,2,3` repeats every
trial with each seed, and the trial's value is the mean. The studies are stored in the sweep's
folder, so that the same command continues them.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from sumcirc.errors import UserError
from sumcirc.schema import MONITORS
from sumcirc.storage.writing import write_json
from sumcirc.sweeps.sweep_record import completed, first_difference
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.run_records import RunRecords

if TYPE_CHECKING:
    import optuna

STORE = "optuna.db"  # SQLite, in the sweep's folder
RECORD = "search.json"
SEED = "seed"
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}
EVERY = "all runs"  # the arm of a search without other axes


def is_searched(item: Override) -> bool:
    """Return whether a setting's values are to be searched, rather than each being an arm."""
    if not item.is_sweep_override():
        return False
    sweep = item.value()
    return not (isinstance(sweep, ChoiceSweep) and sweep.simple_form)


def examples(item: Override) -> list[str]:
    """Return values of a searched setting as text: all choices, or both ends of an interval."""
    sweep: Any = item.value()
    if isinstance(sweep, IntervalSweep):
        return [str(sweep.start), str(sweep.end)]
    return list(item.sweep_string_iterator())


def objective_value(folder: Path) -> float | None:
    """Return a run's value of `sweep.objective`, or None if the run is not done or has no value.

    It is the metric's last value; with trainer.load_best its best one, which the saved model has.

    Args:
        folder: the run directory.
    """
    run = RunDirectory(folder)
    if not (run.status_file.exists() and run.config_file.exists()):
        return None
    records = RunRecords(folder)
    name = records.config["sweep"].get("objective")
    if name is None or not records.done:
        return None
    monitor = MONITORS[name]
    values = [value for _, value in records.metrics.get(monitor.metric, [])]
    if not values:
        return None
    if records.config["trainer"].get("load_best"):
        return (min if monitor.mode == "min" else max)(values)
    return values[-1]


@dataclass(frozen=True)
class Point:
    """One trial: the settings of an arm with values that Optuna suggested.

    Attributes:
        arm: name of the arm.
        trial: Optuna's trial.
        jobs: overrides of each job of the trial, one for each seed.
    """

    arm: str
    trial: optuna.Trial
    jobs: list[list[str]]


class Search:
    """Suggests trials for all arms, and stores their results.

    Args:
        overrides: the command's overrides, parsed.
        folder: folder of the sweep.
        objective: name of the metric that is optimized, one of `MONITORS`.
        sampler: name of the sampler, one of `SAMPLERS`.
        seed: seed of the sampler.
        trials: number of trials of each arm.
    """

    def __init__(
        self,
        overrides: Sequence[Override],
        folder: Path,
        objective: str,
        sampler: str,
        seed: int,
        trials: int,
    ) -> None:
        self.folder, self.objective, self.trials = folder, objective, trials
        self.sampler, self.seed = sampler, seed
        self.space = {
            item.get_key_element(): _distribution(item) for item in overrides if is_searched(item)
        }
        axes = [item for item in overrides if item.is_sweep_override() and not is_searched(item)]
        self.fixed = [str(item.input_line) for item in overrides if not item.is_sweep_override()]
        values = {item.get_key_element(): list(item.sweep_string_iterator()) for item in axes}
        self.seeds = [[f"{SEED}={seed}"] for seed in values.pop(SEED, [])] or [[]]
        combined = itertools.product(*([f"{key}={v}" for v in values[key]] for key in values))
        self.arms = {", ".join(arm) or EVERY: list(arm) for arm in combined}
        self.studies: dict[str, optuna.Study] = {}

    def open(self, settings: Mapping[str, Mapping[str, Any]], repeats: bool) -> None:
        """Create or load the study of every arm, and enqueue trials that were interrupted.

        Args:
            settings: settings of each arm that all its trials share, with dotted keys.
            repeats: whether trials that have failed are run again.

        Raises:
            UserError: a study was begun with other settings.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        direction = "minimize" if MONITORS[self.objective].mode == "min" else "maximize"
        storage = optuna.storages.RDBStorage(f"sqlite:///{self.folder / STORE}")
        for arm in self.arms:
            study = optuna.create_study(
                storage=storage, study_name=arm, direction=direction, load_if_exists=True
            )
            before = study.user_attrs.get("settings")
            now = {**settings[arm], "sweep.objective": self.objective}
            if before:
                before = completed(before, now, "train")
            key = first_difference(before, now) if before else None
            if before and key is not None:
                raise UserError(
                    f"sweep.name={self.folder.name}: its search was begun with"
                    f" {key}={before.get(key)}, now {key}={now.get(key)}; give that value, or"
                    " choose another sweep.name"
                )
            study.set_user_attr("settings", now)
            self._again(study, repeats)
            study.sampler = self._sampler(len(study.trials))
            self.studies[arm] = study

    def _again(self, study: optuna.Study, repeats: bool) -> None:
        """Enqueue the values of trials that an earlier launch left unfinished."""
        from optuna.trial import TrialState

        repeated = list(study.user_attrs.get("repeated", []))
        for trial in study.trials:
            unfinished = trial.state is TrialState.RUNNING
            failed = trial.state is TrialState.FAIL and trial.number not in repeated and repeats
            if unfinished:
                study.tell(trial.number, state=TrialState.FAIL)
            if unfinished or failed:
                study.enqueue_trial(trial.params)
                repeated.append(trial.number)
        study.set_user_attr("repeated", repeated)

    def _sampler(self, done: int) -> optuna.samplers.BaseSampler:
        import optuna

        # a sampler with the same seed would suggest the same values after a restart
        made: Any = getattr(optuna.samplers, SAMPLERS[self.sampler])
        return made(seed=self.seed + done)

    def ask(self, places: int) -> list[Point]:
        """Return the next trials, about as many as jobs can run at the same time.

        Args:
            places: number of jobs that run at the same time.

        Returns:
            One trial or more of each arm that is not complete; none if all arms are.
        """
        each = max(1, places // (len(self.arms) * len(self.seeds)))
        found = []
        for arm, study in self.studies.items():
            left = self.trials - len(self._counted(study))
            for _ in range(min(each, left)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", category=FutureWarning)
                    trial = study.ask(fixed_distributions=self.space)
                values = [f"{key}={value}" for key, value in trial.params.items()]
                shared = [*self.fixed, *self.arms[arm], *values]
                found.append(Point(arm, trial, [[*shared, *seed] for seed in self.seeds]))
        return found

    def tell(self, points: Sequence[Point], results: Sequence[float | None]) -> None:
        """Store the results of trials, and write search.json.

        Args:
            points: the trials.
            results: the objective of every job of these trials, in order; None for a failed job.
        """
        from optuna.trial import TrialState

        left = list(results)
        for point in points:
            mine = [left.pop(0) for _ in point.jobs]
            values = [value for value in mine if value is not None]
            study = self.studies[point.arm]
            point.trial.set_user_attr("values", values)
            if len(values) < len(mine):
                study.tell(point.trial, state=TrialState.FAIL)
            else:
                study.tell(point.trial, sum(values) / len(values))
        self.write()

    def _counted(self, study: optuna.Study) -> list[Any]:
        """Return the finished trials, without those that were run again."""
        repeated = study.user_attrs.get("repeated", [])
        return [t for t in study.trials if t.state.is_finished() and t.number not in repeated]

    def write(self) -> None:
        """Write search.json: the trials of every arm, with their values."""
        arms = {
            arm: [
                {
                    "number": trial.number,
                    "settings": trial.params,
                    "value": trial.value,
                    "values": trial.user_attrs.get("values", []),
                }
                for trial in self._counted(study)
            ]
            for arm, study in self.studies.items()
        }
        mode = MONITORS[self.objective].mode
        body = {"objective": self.objective, "mode": mode, "seeds": len(self.seeds), "arms": arms}
        write_json(self.folder / RECORD, body)


def _distribution(item: Override) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    sweep: Any = item.value()
    log = "log" in sweep.tags
    if isinstance(sweep, IntervalSweep):
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        ends: Any = sweep.start, sweep.end
        return IntDistribution(*ends, log=log) if whole else FloatDistribution(*ends, log=log)
    if isinstance(sweep, RangeSweep) and not log:
        numbers = [float(value) for value in sweep.range()]
        if all(number.is_integer() for number in numbers) and isinstance(sweep.step, int):
            return IntDistribution(int(numbers[0]), int(numbers[-1]), step=sweep.step)
    return CategoricalDistribution(list(item.sweep_string_iterator()))
