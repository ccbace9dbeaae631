"""What the benchmarks share: alternating runs on one thread, and how their result is printed.

Import this module before numpy: the thread counts of the numerical libraries are read when they
load.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")


@dataclass(frozen=True)
class Timing:
    """Process CPU times of one contestant, seconds per run, in the order of the runs."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest − fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def alternate(
    contestants: Mapping[str, Callable[[], object]],
    runs: int = 5,
    warm_up: bool = True,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Run the contestants in turn, `runs` times, and measure process CPU time or another clock.

    Alternating spreads a change of the machine's speed over all of them.
    """
    if warm_up:
        for contestant in contestants.values():
            contestant()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(1, runs + 1):
        for name, contestant in contestants.items():
            gc.collect()
            start = clock()
            contestant()
            seconds[name].append(clock() - start)
            # Long benchmarks show that they live, and leave something if they are broken off.
            print(f"{name}, run {run} of {runs}: {seconds[name][-1]:.3g} s", file=sys.stderr)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def ratio(slow: Timing, fast: Timing, scale: float = 1.0) -> dict[str, float]:
    """Median, lowest and highest of the run-by-run ratios slow / fast, times `scale`."""
    pairs = [scale * a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return {"median": statistics.median(pairs), "low": min(pairs), "high": max(pairs)}


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if platform.system() == "Darwin" else 1 << 10)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def print_result(result: Mapping[str, object]) -> None:
    """Print the last line: one JSON object, with what ran it."""
    about = {"python": platform.python_version(), "peak_memory_mib": round(peak_memory_mib(), 1)}
    print(json.dumps({**result, **about}))
    sys.stdout.flush()
