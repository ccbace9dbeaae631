"""A value with its interval, and how the interval was made."""

from __future__ import annotations

import math
from dataclasses import dataclass

FEWEST = 5
"""Observations below which no interval is given (METHODS §7)."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: The statistic of the data as they are.
        low: Lower end of the interval; NaN where there are too few observations (or groups).
        high: Upper end of the interval; NaN likewise; infinite where it has no end.
        n: Number of independent observations: values, or groups where groups were drawn.
        kind: How the interval was made: "t", "BCa", "Wilson", ...; empty where there is none.
    """

    value: float
    low: float
    high: float
    n: int
    kind: str = ""

    def __str__(self) -> str:
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.4g}, n = {self.n}: too few for an interval"
        high = "unbounded" if math.isinf(self.high) else f"{self.high:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {high}], n = {self.n}"


def without_interval(value: float, n: int) -> Estimate:
    """A value of too few observations."""
    return Estimate(value, math.nan, math.nan, n)
