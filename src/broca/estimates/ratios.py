"""The ratio of two means by Fieller's theorem (1954): it may have no upper end, and says so.

The interval of |mean a| / |mean b| holds every ratio ρ for which mean(a − ρ b) = 0 is not refuted
by a t test over observations (or groups). Where the denominator's own interval holds 0,
arbitrarily large ratios are not refuted: the upper end is infinite, printed as "unbounded", and
nothing is ranked by the ratio. The value always lies inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from broca.estimates.estimate import FEWEST, Estimate, without_interval
from broca.estimates.samples import Groups, check_samples, finite_values, group_totals


def ratio(a: ArrayLike, b: ArrayLike, *, groups: Groups = None, level: float = 0.95) -> Estimate:
    """|mean a| / |mean b| over the same observations: PCR when a is Related and b Unrelated.

    Args:
        a: Numerator, [observation].
        b: Denominator, [observation].
        groups: Label of each observation; whole groups are independent, their members are not.
        level: Coverage the interval aims at, between 0 and 1.

    Raises:
        EstimateError: Empty, non-finite or unequal samples, or labels that do not fit.
    """
    arrays = [finite_values(a), finite_values(b)]
    check_samples(arrays, groups, level)
    totals, sizes = group_totals(arrays, groups)
    n, total = len(sizes), sizes.sum()
    means = totals.sum(axis=0) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.abs(means[0]) / np.abs(means[1]))
    if n < FEWEST or np.isnan(value):
        return without_interval(value, n)
    rest = totals - means * sizes[:, None]  # what a group adds beyond its share: linearised
    covariance = n / (n - 1) * rest.T @ rest / total**2
    t = float(stats.t.ppf((1 + level) / 2, n - 1))
    low, high = _fieller(means, covariance, t * t)
    return Estimate(value, low, high, n, "Fieller")


def _fieller(means: np.ndarray, covariance: np.ndarray, t2: float) -> tuple[float, float]:
    """Ends of |ρ| over all ρ with (mean a − ρ mean b)² ≤ t² var(a − ρ b)."""
    square = means[1] ** 2 - t2 * covariance[1, 1]
    linear = means[0] * means[1] - t2 * covariance[0, 1]
    constant = means[0] ** 2 - t2 * covariance[0, 0]
    root = linear**2 - square * constant
    if square <= 0:  # the denominator may be 0
        if root <= 0 or constant <= 0:  # every ratio, or all but two ranges that leave 0 in
            return 0.0, np.inf
        if not square:
            return float(abs(constant / (2 * linear))), np.inf
        return float(np.abs((linear + np.array([-1, 1]) * np.sqrt(root)) / square).min()), np.inf
    ends = (linear + np.array([-1, 1]) * np.sqrt(max(root, 0.0))) / square
    holds_zero = constant <= 0
    sizes = np.abs(ends)
    return 0.0 if holds_zero else float(sizes.min()), float(sizes.max())
