"""Tasks: the pairs and the metric that define the behaviour a circuit explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from sumcirc.circuits.attribution.methods import AttributionSettings, require_memory
from sumcirc.circuits.inputs.example_pairs import ExamplePair, TokenPairs, pair_metric
from sumcirc.circuits.inputs.filtering import answerable, changed_pairs
from sumcirc.circuits.inputs.splitting import split_pairs
from sumcirc.circuits.metrics import Metric
from sumcirc.circuits.patching.evaluator import Evaluator
from sumcirc.circuits.patching.patched_run import source_means
from sumcirc.errors import UserError
from sumcirc.runtime.notices import Notice, left_out
from sumcirc.schema import Ablation, CircuitOptions
from sumcirc.statistics.noise import no_gap

LEFT_OUT = ("unchanged", "untold")  # attributes of a task that count pairs


class NoBehaviourError(UserError):
    """Raised when corruption raises the metric of fewer than two pairs."""


@dataclass(frozen=True)
class Task:
    """The behaviour that a circuit explains: pairs, and a metric on them.

    Attributes:
        pairs: the pairs that are used. Corruption raises the metric on each of them, unless
            `make_task` was called with `keep_all`.
        tokens: the same pairs as padded tensors.
        metric: the metric, created for these pairs.
        evaluator: runs circuits on these pairs and computes the metric.
        unchanged: number of pairs that were left out because corruption doesn't raise their metric.
        untold: number of pairs that were left out because the metric compares two answers and only
            one is known for them.
        losses: the metric of the clean and of the corrupted run on all pairs for which it is
            defined, before any was left out, [pairs] each.
    """

    pairs: list[ExamplePair]
    tokens: TokenPairs
    metric: Metric
    evaluator: Evaluator
    unchanged: int
    untold: int
    losses: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def notices(self) -> list[Notice]:
        """Messages for the user about pairs that were left out and about undefined faithfulness."""
        return _notices([self])


@dataclass(frozen=True)
class SplitTask:
    """A task whose pairs select edges, and one whose held-out pairs evaluate circuits.

    Attributes:
        task: the pairs on which edges are chosen.
        held_out: the pairs on which circuits are judged; None if they are judged in-sample, on the
            pairs of `task`.
        notices: messages for the user, as of a `Task`, and about pairs that could not be divided.
    """

    task: Task
    held_out: Task | None
    notices: list[Notice]

    @property
    def unchanged(self) -> int:
        """Number of pairs in both tasks that were dropped because corruption has no effect."""
        return sum(one.unchanged for one in self._tasks)

    @property
    def untold(self) -> int:
        """Number of pairs in both tasks that were dropped because they have no wrong answer."""
        return sum(one.untold for one in self._tasks)

    @property
    def _tasks(self) -> list[Task]:
        return [self.task] if self.held_out is None else [self.task, self.held_out]


def _notices(tasks: list[Task]) -> list[Notice]:
    """Return notices about dropped pairs and about tasks without an effect to explain."""
    first = tasks[0]
    unchanged, untold = (sum(getattr(one, name) for one in tasks) for name in LEFT_OUT)
    total = sum(len(one.pairs) for one in tasks) + unchanged + untold
    reasons = {
        f"corruption does not raise {first.metric.name}": unchanged,
        "no other answer is known": untold,
    }
    found = left_out("circuit.metric", "pairs", reasons, total)
    for task in tasks:
        if task.evaluator.doubt is not None:
            words = (
                "pairs have no effect to explain, so that faithfulness, CPR and CMD are not"
                f" defined: {task.evaluator.doubt}; train the model first, or take another metric"
                " or other pairs"
            )
            count = len(task.pairs)
            found.append(Notice("circuit.metric", "no effect", count, count, words, limit=0.0))
    return found


def make_task(
    model: PreTrainedModel | PeftModel,
    pairs: list[ExamplePair],
    options: CircuitOptions,
    keep_all: bool = False,
    attributed: bool = True,
) -> Task:
    """Make a task of the pairs on which corruption raises the metric.

    The selected pairs would show an effect of corruption even if there were only noise. Whether
    there is an effect (`Evaluator.doubt`) is therefore tested on all pairs.

    Args:
        model: the model, with or without an adapter.
        pairs: clean and corrupted inputs.
        options: settings that determine the metric, the ablation, the batch size and the memory
            budget.
        keep_all: whether to keep pairs on which corruption does not raise the metric, so that
            circuits of several models use the same pairs.
        attributed: whether edges will be scored on these pairs, for which the memory budget then
            has to suffice, too.

    Raises:
        NoBehaviourError: fewer than two pairs are left.
        UserError: the metric does not fit the pairs, or one of them needs more memory than the
            budget.
    """
    told = answerable(pairs, options.metric)
    unchanged, untold = 0, len(pairs) - len(told)
    pairs, doubt = told, None
    losses = None
    while True:
        tokens = TokenPairs.of(pairs)
        metric = pair_metric(options.metric, tokens)
        if attributed and not unchanged:  # later pairs are some of the first
            settings = AttributionSettings(options.method, options.steps, options.rule)
            require_memory(model, tokens, metric, settings, options.memory)
        evaluator = Evaluator(
            model, tokens, metric, batch=options.batch_size, memory=options.memory
        )
        clean, corrupted = evaluator.full.metric, evaluator.empty.metric
        losses = losses or (clean, corrupted)
        kept, dropped = changed_pairs(pairs, clean, corrupted)
        doubt = doubt or evaluator.doubt
        if doubt is None and not keep_all and corrupted.mean() < clean.mean():
            gap = corrupted.mean() - clean.mean()
            doubt = f"corruption raises {metric.name} of {len(pairs)} pairs by {gap:.3g}"
        evaluator.doubt = doubt
        if not dropped or keep_all:
            if options.ablation is not Ablation.patch:
                evaluator = _ablating(model, tokens, metric, options)
            return Task(pairs, tokens, metric, evaluator, unchanged, untold, losses)
        pairs, unchanged = kept, unchanged + dropped
        if len(pairs) < 2:
            raise NoBehaviourError(
                f"circuit.metric={options.metric}: corruption raises it in {len(pairs)} of"
                f" {len(pairs) + unchanged} pairs; there is no behaviour to explain (train the"
                " model first, or take another metric or other pairs)"
            )


def make_tasks(
    model: PreTrainedModel | PeftModel, pairs: list[ExamplePair], options: CircuitOptions
) -> SplitTask:
    """Split pairs into those that select edges and those that evaluate circuits.

    Args:
        model: the model, with or without an adapter.
        pairs: clean and corrupted inputs.
        options: settings as of `make_task`, and the share of pairs to hold out.

    Returns:
        The tasks. No pairs are held out if the share is 0, or if fewer than two pairs would be left
        on a side; a notice then says so.

    Raises:
        UserError: for the reasons given in `make_task`.
    """
    if not options.held_out:
        task = make_task(model, pairs, options)
        return SplitTask(task, None, task.notices)
    sides = split_pairs(pairs, options.held_out)
    if min(map(len, sides)) >= 2:
        try:
            tasks = [make_task(model, sides[0], options)]
            tasks.append(make_task(model, sides[1], options, attributed=False))
            _join_doubt(tasks)
            return SplitTask(tasks[0], tasks[1], _notices(tasks))
        except NoBehaviourError:  # too few usable pairs on one side
            pass
    task = make_task(model, pairs, options)
    count = len(task.pairs)
    words = (
        "pairs judge the circuit in-sample, being those that its edges are chosen on: too few of"
        f" different documents to hold out {100 * options.held_out:g} %; give more pairs"
        " (circuit.documents, or more lines of pairs=), or circuit.held_out=0"
    )
    said = Notice("circuit.held_out", "in-sample", count, count, words, limit=0.0)
    return SplitTask(task, None, [*task.notices, said])


def _join_doubt(tasks: list[Task]) -> None:
    """Test whether corruption has an effect on the pairs of all tasks together."""
    clean, corrupted = (
        np.concatenate(side) for side in zip(*(t.losses for t in tasks), strict=True)
    )
    gap = float(corrupted.mean() - clean.mean())
    reason = no_gap(clean, corrupted) or (f"{gap:.3g}" if gap < 0 else None)
    for task in tasks:
        if reason is not None:
            name = task.metric.name
            task.evaluator.doubt = f"corruption raises {name} of {len(clean)} pairs by {reason}"


def _ablating(
    model: PreTrainedModel | PeftModel, tokens: TokenPairs, metric: Metric, options: CircuitOptions
) -> Evaluator:
    """Return an evaluator whose circuits have zeros or means in place of the cut edges."""
    means = None
    if options.ablation is Ablation.mean:
        means = source_means(
            model, tokens.clean.input_ids, tokens.attention_mask, options.batch_size
        )
    return Evaluator(
        model,
        tokens,
        metric,
        ablation=options.ablation.value,
        means=means,
        batch=options.batch_size,
        memory=options.memory,
    )
