"""What every benchmark here shares: turns, clocks, intervals, the command line, the result file.

Two sides are compared inside one process and interleaved as A B A B ..., so that a machine that
gets slower or busier meanwhile slows both alike. A ratio is the median over pairs of neighbours;
it is taken of wall time, and of the process's CPU seconds, which a busy neighbour disturbs less.
A target is set against the CPU seconds on a CPU and against the wall time on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import platform
import re
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from sumcirc.tracking.run_directory import git_commit

T = TypeVar("T")

COLUMNS = (
    *("benchmark", "model", "case", "ratio", "in CPU seconds", "interval", "target", "machine"),
    "date",
)
TOKENS = (256, 1024)  # of a document, with --model
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "transformers", "pytorch-lightning", "accelerate", "numpy")


@dataclass(frozen=True)
class Lap:
    """Wall and CPU seconds of one piece of work."""

    wall: float
    cpu: float


def total(laps: Sequence[Lap]) -> Lap:
    """Several laps as one."""
    return Lap(sum(lap.wall for lap in laps), sum(lap.cpu for lap in laps))


class Clock:
    """Laps of work on a device; waits for a GPU before it reads the time."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.restart()

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def restart(self) -> None:
        """Begin a lap."""
        self._began = self._now()

    def lap(self) -> Lap:
        """Seconds since the lap began."""
        wall, cpu = self._now()
        return Lap(wall - self._began[0], cpu - self._began[1])


def timed(device: str, work: Callable[[], T]) -> tuple[T, Lap]:
    """What a call returns, and the seconds that it took."""
    clock = Clock(device)
    result = work()
    return result, clock.lap()


class Turns:
    """Two loops, each in a thread of its own, of which one runs at a time: a lap, then the other's.

    A loop calls `pass_on` at the end of each of its laps. The first lap of a side holds its set-up
    and is left out of `laps`.
    """

    def __init__(self, device: str, threads: int) -> None:
        self.laps: dict[str, list[Lap]] = {}
        self.first: dict[str, Lap] = {}  # the lap of each side with its set-up
        self._clock = Clock(device)
        self._threads = threads
        self._waiting: list[str] = []  # whose turn it is comes first
        self._failed = False
        self._change = threading.Condition()

    def run(self, **sides: Callable[[], Any]) -> dict[str, Any]:
        """Run the sides in turns; what each returned. An exception in one ends both."""
        self._waiting = list(sides)
        self.laps = {name: [] for name in sides}
        with ThreadPoolExecutor(len(sides)) as pool:
            futures = {name: pool.submit(self._side, name, run) for name, run in sides.items()}
            return {name: future.result() for name, future in futures.items()}

    def _side(self, name: str, run: Callable[[], Any]) -> Any:
        threading.current_thread().name = name
        # OpenMP keeps the number of threads by calling thread
        torch.set_num_threads(self._threads)
        try:
            self._await(name)
            result = run()
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._change:
                self._waiting.remove(name)
                self._change.notify_all()
        # the lap behind the last one is the side's way out, not work
        self.first[name], *self.laps[name] = self.laps[name]
        return result

    def _await(self, name: str) -> None:
        with self._change:
            self._change.wait_for(lambda: self._failed or self._waiting[0] == name)
        if self._failed:
            raise RuntimeError("the other side failed")
        self._clock.restart()

    def pass_on(self) -> None:
        """End the lap of the side that calls, and return when it is its turn again."""
        name = threading.current_thread().name
        self.laps[name].append(self._clock.lap())
        with self._change:
            self._waiting.append(self._waiting.pop(0))
            self._change.notify_all()
        self._await(name)


def peak(device: str, work: Callable[[], Any]) -> int:
    """Most bytes in use during `work`, above those before it."""
    release(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def release(device: str) -> None:
    """Give freed memory back, which else would serve later work uncounted."""
    gc.collect()
    if device == "cpu":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def in_use(device: str) -> int:
    """Bytes in use now: on a GPU those that torch has allocated, else the process's memory."""
    return torch.cuda.memory_allocated() if device == "cuda" else resident("VmRSS")


def resident(field: str) -> int:
    """Bytes of this process's memory by their name in /proc (Linux)."""
    found = re.search(
        rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii")
    )
    assert found is not None
    return 1024 * int(found[1])


def ratio(slow: Sequence[Lap], fast: Sequence[Lap]) -> dict[str, Any]:
    """Median over pairs of neighbours of how many times as long `slow` takes, wall and CPU.

    Each has an interval for the median, which assumes nothing about how times are distributed;
    `coverage` is the share of repetitions in which such an interval contains it.
    """
    pairs = list(zip(slow, fast, strict=True))
    found: dict[str, Any] = {}
    for ending, clock in (("", "wall"), ("_cpu", "cpu")):
        ratios = [getattr(a, clock) / getattr(b, clock) for a, b in pairs]
        low, high, found["coverage"] = median_interval(ratios)
        found |= {f"ratio{ending}": statistics.median(ratios), f"interval{ending}": [low, high]}
    return found


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Interval of a median between two order statistics, and how often it covers the median.

    It is the narrowest that covers it at `level`. With five values or fewer none does, and the
    interval from the smallest to the largest has the coverage that it has.
    """
    ordered, count = sorted(values), len(values)
    below, out = 0.5**count, 0  # probability that at most `out` values lie below the median
    best = below
    while 2 * (out + 1) < count:
        below += math.comb(count, out + 1) * 0.5**count
        if 1 - 2 * below < level:
            break
        out, best = out + 1, below
    return ordered[out], ordered[count - 1 - out], max(0.0, 1 - 2 * best)


def one_figure(ours: float, theirs: float, unit: str = "megabytes") -> dict[str, Any]:
    """A ratio of bytes; the table's column for seconds has the same, since there is one figure."""
    share = ours / theirs
    return {
        "ratio": share,
        "ratio_cpu": share,
        unit: ours / 1e6,
        f"{unit}_floor": theirs / 1e6,
    }


def speed(units: Sequence[float], laps: Sequence[Lap]) -> dict[str, float]:
    """Median over laps of units per second, wall and CPU."""
    pairs = list(zip(units, laps, strict=True))
    return {
        "per_second": statistics.median(n / lap.wall for n, lap in pairs),
        "per_cpu_second": statistics.median(n / lap.cpu for n, lap in pairs),
    }


def parser(description: str | None, local: bool = False) -> argparse.ArgumentParser:
    """The command line that every benchmark has; if `local`, with --model and --tokens."""
    found = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    found.add_argument("--quick", action="store_true", help="fewer repeats, a rough figure")
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    found.add_argument("--threads", type=int, default=None, help="CPU threads; torch's choice")
    found.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the result file (results/)"
    )
    found.set_defaults(model=None, rounds=None)
    if local:
        found.add_argument(
            "--rounds",
            type=int,
            metavar="N",
            help="of each comparison; fewer take less time, but give wider intervals",
        )
        found.add_argument(
            "--model",
            type=Path,
            help="folder of a causal language model to measure instead of a shape",
        )
        found.add_argument(
            "--tokens",
            type=int,
            nargs="+",
            default=list(TOKENS),
            metavar="T",
            help="tokens in a document, with --model (256 1024)",
        )
    return found


def rounds_of(options: argparse.Namespace, full: int, quick: int) -> int:
    """Return --rounds, or else the benchmark's own number."""
    if options.rounds is not None:
        return options.rounds
    return quick if options.quick else full


def prepare(options: argparse.Namespace) -> int:
    """Set threads and quiet, refuse a GPU that is not there; returns the number of threads."""
    if options.rounds is not None and options.rounds < 1:
        raise SystemExit(f"--rounds {options.rounds}: must be 1 or more")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: no GPU is visible to torch; leave it out to use the CPU")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return torch.get_num_threads()


Figures = Mapping[str, Mapping[str, Any]]  # of each case, by the case's name


def write_result(
    name: str,
    options: argparse.Namespace,
    claim: str,
    target: float | None,
    figures: Figures,
) -> None:
    """Print the figures of each case and write them as `save_result` does."""
    show(name, figures)
    save_result(name, options, claim, target, figures)


def show(name: str, figures: Figures) -> None:
    """Print the ratio of each case."""
    for case, values in figures.items():
        print(f"{name} {case}: ratio {values['ratio']:.2f} (CPU seconds {values['ratio_cpu']:.2f})")


def save_result(
    name: str,
    options: argparse.Namespace,
    claim: str,
    target: float | None,
    figures: Figures,
    stages: Mapping[str, float | str] | None = None,
) -> None:
    """Write the figures of each case to NAME.json (NAME-cuda.json on a GPU).

    With --model FOLDER the file is NAME-FOLDER.json. Each case holds `ratio` and `ratio_cpu`;
    `target`, or a case's own `at_least`, is to be reached, its `at_most` not to be passed.
    `stages` has the seconds that each took, or why it was not measured; then targets are not
    reached.
    """
    judged = "ratio_cpu" if options.device == "cpu" else "ratio"
    body = {
        "benchmark": name,
        "model": options.model and options.model.resolve().name,
        "claim": claim,
        "target": target,
        "reached": not any(isinstance(stage, str) for stage in (stages or {}).values())
        and all(
            case[judged] <= case["at_most"]
            if "at_most" in case
            else case[judged] >= case.get("at_least", target)
            for case in figures.values()
        ),
        "quick": options.quick,
        "figures": figures,
        **({"stages": stages} if stages is not None else {}),
        "machine": machine(options.device),
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in PACKAGES},
        },
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": git_commit(),
    }
    options.results.mkdir(parents=True, exist_ok=True)
    parts = [name, body["model"], None if options.device == "cpu" else options.device]
    file = "-".join(part for part in parts if part) + ".json"
    text = json.dumps(rounded(body), indent=2, allow_nan=False)
    (options.results / file).write_text(text + "\n", encoding="utf-8")
    write_table(options.results)


def write_table(folder: Path) -> None:
    """Write README.md, a table of all result files in `folder`."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        where = result["machine"]
        machine = (
            where.get("gpu") or f"{where['cpu']}, {where['threads']} of {where['cores']} cores"
        )
        for case, values in result["figures"].items():
            judged = "interval" if "gpu" in where else "interval_cpu"
            interval = "[{:.2f}, {:.2f}]".format(*values[judged]) if judged in values else "-"
            cells = [
                result["benchmark"],
                result.get("model") or "shape",
                case,
                f"{values['ratio']:.2f}",
                f"{values['ratio_cpu']:.2f}",
                interval,
                f"at most {values['at_most']:g}"
                if "at_most" in values
                else f"{values.get('at_least', result['target']):g}",
                machine + (", --quick" if result["quick"] else ""),
                result["date"],
            ]
            rows.append(f"| {' | '.join(cells)} |")
    text = "\n".join(
        [
            "# Latest results",
            "",
            "Written by the benchmarks. [../README.md](../README.md) explains the figures.",
            "`interval` is for the median over the rounds: of the ratio of CPU seconds, or of wall"
            " time on a GPU.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
            *rows,
        ]
    )
    (folder / "README.md").write_text(text + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Floats at four significant digits; what a stopwatch gives beyond them is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def machine(device: str) -> dict[str, Any]:
    """The processor, its cores, torch's threads, how busy it was, and the GPU if one was used."""
    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_gigabytes"] = torch.cuda.get_device_properties(0).total_memory / 1e9
        found["cuda"] = torch.version.cuda
    return found


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
