"""How long a kind of work takes per item, from a few items and in a few seconds.

1. The middle item warms up: checks that are made once, memory, compiled kernels. If it alone takes
   longer than the budget, it is what counts.
2. Samples of 1, 4, 16 and 64 items, spread over all, are timed, each only if by the last rate it
   fits into what is left of the budget.
3. The last rate counts. How far it may be off is told by the rate before it: it still moved by
   that much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

BUDGET = 3.0  # seconds for a kind of work, after the warming up
SIZES = (1, 4, 16, 64)
LEAST_OFF = 0.25  # share; no rate of a few seconds is known better


@dataclass(frozen=True)
class Rate:
    """Seconds per item.

    Attributes:
        seconds: Of one item.
        off: Share by which it may be wrong.
    """

    seconds: float
    off: float = LEAST_OFF

    def __truediv__(self, parts: int) -> Rate:
        return Rate(self.seconds / parts, self.off)


def rate_of(
    work: Callable[[Sequence[Item]], object], items: Sequence[Item], budget: float = BUDGET
) -> Rate:
    """Measure a kind of work.

    Args:
        work: Does the work for some items.
        items: All items there are.
        budget: Seconds that measuring may take beyond the first item.
    """
    if not items:
        return Rate(0.0)
    rates = [_timed(work, spread(items, 1))]
    if rates[0] > budget:  # a second one would tell little for its price
        return Rate(rates[0], 1.0)
    end = time.perf_counter() + budget
    for size in SIZES:
        some = spread(items, size)
        left = end - time.perf_counter()
        if len(rates) > 1 and (rates[-1] * len(some) > left or len(some) <= size // 4):
            break
        rates.append(_timed(work, some))
    moved = abs(rates[-2] / rates[-1] - 1) if len(rates) > 2 and rates[-1] else 1.0
    return Rate(rates[-1], min(1.0, max(LEAST_OFF, moved)))


def _timed(work: Callable[[Sequence[Item]], object], items: Sequence[Item]) -> float:
    start = time.perf_counter()
    work(items)
    return (time.perf_counter() - start) / len(items)


def spread(items: Sequence[Item], n: int) -> list[Item]:
    """At most n items, evenly spread; one of them is the middle one."""
    step = max(1, -(-len(items) // n))
    return list(items[step // 2 :: step])[:n]
