"""The median with the interval that order statistics give: exact, whatever the distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from broca.estimates.estimate import FEWEST, Estimate, without_interval
from broca.estimates.samples import check_samples, finite_values


def median(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Median of values; its ends are observations.

    The number of values below the true median is binomial: the widest-apart order statistics that
    leave out at most (1 − level) / 2 on either side are the ends; where even the extremes leave out
    more (n = 5 at .95), there is no interval.

    Raises:
        EstimateError: No values, or one of them not finite.
    """
    array = np.sort(finite_values(values))
    check_samples([array], None, level)
    n, value = len(array), float(np.median(array))
    rank = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    if n < FEWEST or rank < 1:
        return without_interval(value, n)
    return Estimate(value, float(array[rank - 1]), float(array[n - rank]), n, "order statistics")
