"""Rank tests, through scipy, with the cases that scipy leaves undefined settled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from broca.errors import EstimateError
from broca.estimates.samples import Alternative, finite_values


class RankTest(NamedTuple):
    """Statistic, p-value and number of observations that entered a rank test."""

    statistic: float
    p: float
    n: int


def wilcoxon_test(
    a: ArrayLike, b: ArrayLike | None = None, *, alternative: Alternative = "two-sided"
) -> RankTest:
    """Wilcoxon signed-rank test of paired differences a − b (or of a, if b is left out).

    Zero differences are dropped, as Wilcoxon did; where nothing else is there, p = 1.

    Raises:
        EstimateError: No values, unequal lengths, or a number that is not finite.
    """
    values = finite_values(a)
    if b is not None:
        other = finite_values(b)
        if len(values) != len(other):
            raise EstimateError(f"Paired samples of {len(values)} and {len(other)} values")
        values = values - other
    if not len(values):
        raise EstimateError("A signed-rank test needs at least one difference")
    values = values[values != 0]
    if not len(values):
        return RankTest(0.0, 1.0, 0)
    # Ties forbid the exact distribution that scipy would otherwise take for small samples.
    tied = len(np.unique(np.abs(values))) < len(values)
    method = "approx" if tied or len(values) > 50 else "exact"
    statistic, p = np.asarray(stats.wilcoxon(values, alternative=alternative, method=method))
    return RankTest(float(statistic), float(p), len(values))


def rank_sum_test(
    a: ArrayLike, b: ArrayLike, *, alternative: Alternative = "two-sided"
) -> RankTest:
    """Rank-sum (Mann-Whitney) test of two independent samples.

    Raises:
        EstimateError: An empty sample or a number that is not finite.
    """
    first, second = finite_values(a), finite_values(b)
    if not len(first) or not len(second):
        raise EstimateError("A rank-sum test needs values in both samples")
    n = len(first) + len(second)
    if np.ptp(np.concatenate([first, second])) == 0:
        return RankTest(len(first) * len(second) / 2, 1.0, n)
    statistic, p = np.asarray(stats.mannwhitneyu(first, second, alternative=alternative))
    return RankTest(float(statistic), float(p), n)
