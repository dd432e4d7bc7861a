"""Every benchmark, one after the other, each in a process of its own.

    python benchmarks/run_all.py [--quick] [--device cuda] [--threads N] [--results FOLDER]
    python benchmarks/run_all.py --model FOLDER [--tokens T ...]

What is given here is handed on to each. With --model, those that take it are run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOCAL = ("training_throughput", "generation", "attention", "circuits", "watchers")  # take --model
NAMES = (*LOCAL, "buckets", "compare")


def main() -> None:
    """Run them all; exit with 1 if one failed."""
    folder = Path(__file__).resolve().parent
    failed = [
        name
        for name in (LOCAL if "--model" in sys.argv else NAMES)
        if subprocess.run(
            [sys.executable, str(folder / f"{name}.py"), *sys.argv[1:]], check=False
        ).returncode
    ]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
