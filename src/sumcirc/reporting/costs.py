"""Reads the cost of training from summary.json for tables and files.

Runs of versions that did not record it, and untrained systems, have unknown costs (NaN), which are
shown as `-`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


@dataclass(frozen=True)
class Cost:
    """The cost of training of one run, or means over runs; NaN where a run does not have a value.

    Attributes:
        flops: floating-point operations of all optimizer steps.
        flops_per_second: operations per second of training time, over all devices.
        mfu: model FLOPs utilization, a fraction.
        device_memory: peak memory of tensors on the GPU in bytes.
        process_memory: peak memory of the whole process in bytes.
    """

    flops: float = math.nan
    flops_per_second: float = math.nan
    mfu: float = math.nan
    device_memory: float = math.nan
    process_memory: float = math.nan


def cost_of(summaries: Sequence[Mapping[str, Any]]) -> Cost:
    """Return the mean cost of runs.

    Args:
        summaries: contents of the runs' summary.json.
    """
    records = [summary.get("cost", {}) for summary in summaries]
    names = Cost.__dataclass_fields__
    values = {name: [record.get(name, math.nan) for record in records] for name in names}
    return Cost(**{name: float(np.mean(found)) for name, found in values.items()})


def cost_columns(costs: Sequence[Cost]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and cells of the cost columns of a table.

    There are no columns if no cost is known. The utilization has one if it is known for any row,
    and peak memory is that of the GPU if any row has it, else that of the process.

    Args:
        costs: costs of the rows.
    """
    gpu = any(math.isfinite(cost.device_memory) for cost in costs)
    columns: list[tuple[str, list[float], Callable[[float], str]]] = [
        ("FLOPs", [cost.flops for cost in costs], _prefixed),
        ("FLOP/s", [cost.flops_per_second for cost in costs], _prefixed),
        ("MFU", [cost.mfu for cost in costs], "{:.1%}".format),
        (
            f"{'GPU' if gpu else 'process'} GiB",
            [(cost.device_memory if gpu else cost.process_memory) / 2**30 for cost in costs],
            "{:.2f}".format,
        ),
    ]
    known = [one for one in columns if any(map(math.isfinite, one[1]))]
    headings = [heading for heading, _, _ in known]
    return headings, [
        [form(values[i]) if math.isfinite(values[i]) else "-" for _, values, form in known]
        for i in range(len(costs))
    ]


def _prefixed(value: float) -> str:
    """Format a number with three digits and a metric prefix, such as `1.24 T`."""
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}".rstrip()
