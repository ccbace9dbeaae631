"""Shares: how many of so many, with Wilson's interval.

Around 20 of 20 lies [84 %, 100 %], never [100 %, 100 %] (Wilson 1927). Observations in groups (a
fact asked under several random sets) are as many as their spread between groups says: the interval
takes the effective number, between the number of groups and that of observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from broca.errors import EstimateError
from broca.estimates.estimate import FEWEST, Estimate, without_interval
from broca.estimates.samples import Groups, check_samples, finite_values, group_totals


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Both ends of Wilson's interval around a share of n observations."""
    z = float(stats.norm.ppf((1 + level) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = float(centre - half), float(centre + half)
    return low if share > 0 else 0.0, high if share < 1 else 1.0


def share(hits: ArrayLike, *, groups: Groups = None, level: float = 0.95) -> Estimate:
    """The share of hits among observations.

    Args:
        hits: Whether each observation is one: truth values, or numbers between 0 and 1 (a query's
            share of right prompts), [observation].
        groups: Label of each observation; groups are the independent ones.
        level: Coverage the interval aims at, between 0 and 1.

    Raises:
        EstimateError: No observations, a value outside 0..1, or labels that do not fit.
    """
    values = finite_values(hits)
    check_samples([values], groups, level)
    if values.min() < 0 or values.max() > 1:
        raise EstimateError("A share is made of values between 0 and 1")
    totals, sizes = group_totals([values], groups)
    n, value = len(sizes), float(values.mean())
    if n < FEWEST:
        return without_interval(value, n)
    return Estimate(
        value, *wilson(value, _effective(totals[:, 0], sizes, value), level), n, "Wilson"
    )


def relative_loss(
    before: ArrayLike, after: ArrayLike, *, groups: Groups = None, level: float = 0.95
) -> Estimate:
    """(before − after) / before of paired truth values: acc_drop, with an interval.

    Where nothing wrong became right it is a share, lost / right before. What became right is taken
    off it, and widens the interval as much as another share does (MOVER, Newcombe 1998).

    Args:
        before: Whether each observation was right before, [observation].
        after: The same afterwards.
        groups: Label of each observation; groups are the independent ones.
        level: Coverage the interval aims at, between 0 and 1.

    Returns:
        NaN throughout where nothing was right before; n counts what was right before.

    Raises:
        EstimateError: No observations, unequal samples, or labels that do not fit.
    """
    right, still = finite_values(before) > 0, finite_values(after) > 0
    check_samples([right, still], groups, level)
    names = np.arange(len(right)) if groups is None else np.asarray(groups, dtype=object)
    if not right.any():
        return without_interval(float("nan"), 0)
    lost = share(~still[right], groups=names[right], level=level)
    ratio = (~right).sum() / right.sum()
    if not (~right & still).any():
        return lost
    gained = share(still[~right], groups=names[~right], level=level)
    value = lost.value - ratio * gained.value
    if np.isnan(lost.low):
        return without_interval(value, lost.n)
    ends = (gained.low, gained.high)
    if np.isnan(gained.low):
        ends = wilson(gained.value, max(1, gained.n), level)
    down = np.hypot(lost.value - lost.low, ratio * (ends[1] - gained.value))
    up = np.hypot(lost.high - lost.value, ratio * (gained.value - ends[0]))
    return Estimate(value, float(value - down), float(value + up), lost.n, "Wilson, MOVER")


def _effective(totals: np.ndarray, sizes: np.ndarray, value: float) -> float:
    """Independent observations that would have the spread that the groups have."""
    n, total = len(sizes), sizes.sum()
    within = value * (1 - value)
    between = n / (n - 1) * np.square(totals - value * sizes).sum() / total**2
    if n == total:  # a group per observation: shares of shares spread less, never more
        return float(total)
    if not within or not between:
        return float(n)
    return float(np.clip(within / between, n, total))
