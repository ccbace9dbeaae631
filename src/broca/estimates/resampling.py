"""Values with bootstrap intervals.

Apart from medians and AUROC, each statistic the studies report is a function of means (a mean, a
difference of means, the ratio PCR), so one bootstrap that resamples means serves them all: rows
are drawn as counts, and the resampled means are one matrix product. With `groups`, whole groups
are drawn (several prompts of one fact are not independent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from broca.errors import EstimateError
from broca.estimates.samples import finite_values

MeansFunction = Callable[..., np.ndarray]

_CHUNK = 1 << 21  # numbers drawn at a time, so that memory does not grow with the resamples


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: The statistic of the data as they are.
        low: Lower end of the interval; NaN where one observation (or group) allows none.
        high: Upper end of the interval; NaN likewise.
        n: Number of independent observations: values, or groups where groups were drawn.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}], n = {self.n}"


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """mean a − mean b."""
    return a - b


def absolute_ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|mean a| / |mean b|: PCR when a is Related and b is Unrelated (METHODS §3)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(a) / np.abs(b)


def absolute_gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|mean a| − |mean b|: what stands beside PCR, stable where its denominator is near 0."""
    return np.abs(a) - np.abs(b)


def bootstrap(
    function: MeansFunction,
    *samples: ArrayLike,
    paired: bool = True,
    groups: Sequence[object] | np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Percentile bootstrap of a function of means.

    A paired comparison of two methods is one call: `bootstrap(lambda a, b, c, d:
    absolute_gap(a, b) - absolute_gap(c, d), related1, unrelated1, related2, unrelated2)`.

    Args:
        function: Takes one array of means per sample, [resample], and returns [resample].
        samples: Values, [observation] each; paired samples have the same length.
        paired: Draw the same observations for all samples; else each sample on its own.
        groups: Label of each observation; whole groups are drawn. Paired samples only.
        seed: Seed of the draws.
        n_resamples: Number of resamples.
        level: Coverage the interval aims at, between 0 and 1.

    Returns:
        The estimate; n counts the groups or the observations (the smallest sample if unpaired).

    Raises:
        EstimateError: Empty, non-finite or unequal samples, or groups with unpaired samples.
    """
    arrays = [finite_values(sample) for sample in samples]
    _check_bootstrap(arrays, paired, groups, n_resamples, level)
    rng = np.random.default_rng(seed)
    if paired:
        totals, sizes = _group_totals(arrays, groups)
        n = len(sizes)
        draws = np.concatenate(
            [
                _apply(function, (counts @ totals) / (counts @ sizes)[:, None])
                for counts in _draw_counts(n, n_resamples, rng)
            ]
        )
    else:
        n = min(len(array) for array in arrays)
        means = [
            np.concatenate([c @ a / len(a) for c in _draw_counts(len(a), n_resamples, rng)])
            for a in arrays
        ]
        draws = _apply(function, np.stack(means, axis=1))
    value = _apply(function, np.array([[array.mean() for array in arrays]]))[0]
    return _interval(float(value), draws, n, level)


def bootstrap_mean(
    values: ArrayLike,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean of values with a bootstrap interval; see `bootstrap` for arguments and errors."""
    return bootstrap(
        lambda a: a, values, groups=groups, seed=seed, n_resamples=n_resamples, level=level
    )


def bootstrap_paired(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean of a − b over the same observations; see `bootstrap` for arguments and errors."""
    return bootstrap(
        difference, a, b, groups=groups, seed=seed, n_resamples=n_resamples, level=level
    )


def bootstrap_ratio(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool = True,
    groups: Sequence[object] | np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """|mean a| / |mean b| (PCR); infinite where mean b is 0. See `bootstrap`."""
    return bootstrap(
        absolute_ratio,
        a,
        b,
        paired=paired,
        groups=groups,
        seed=seed,
        n_resamples=n_resamples,
        level=level,
    )


def bootstrap_median(
    values: ArrayLike, *, seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Median of values with a bootstrap interval; see `bootstrap` for arguments and errors."""
    array = finite_values(values)
    _check_bootstrap([array], True, None, n_resamples, level)
    rng = np.random.default_rng(seed)
    draws = [np.median(array[rows], axis=1) for rows in _draw_rows(len(array), n_resamples, rng)]
    return _interval(float(np.median(array)), np.concatenate(draws), len(array), level)


def auroc(
    scores: ArrayLike,
    positive: ArrayLike,
    *,
    groups: Sequence[object] | np.ndarray | None = None,
    strata: Sequence[object] | np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Area under the ROC curve: how often a positive scores above a negative, ties half.

    Positives and negatives are drawn apart, so that no resample lacks one of them. With groups,
    whole groups are drawn; a resample that lacks one of them could be anything from 0 to 1. With
    strata, scores are compared within a stratum only (pairs won in all / pairs in all), and
    groups are drawn within their stratum.

    Args:
        scores: [observation].
        positive: Whether each is a positive, [observation].
        groups: Label of each observation; whole groups are drawn.
        strata: Label of each observation; needs groups, each of one stratum.
        seed: Seed of the draws.
        n_resamples: Number of resamples.
        level: Coverage the interval aims at, between 0 and 1.

    Raises:
        EstimateError: No positive or no negative (in any one stratum), lengths differ, or strata
            without groups.
    """
    values, labels = finite_values(scores), np.asarray(positive, bool)
    if len(values) != len(labels):
        raise EstimateError(f"{len(values)} scores but {len(labels)} labels")
    pos, neg = values[labels], values[~labels]
    if not len(pos) or not len(neg):
        raise EstimateError("AUROC needs at least one positive and one negative")
    _check_bootstrap([values], True, groups, n_resamples, level)
    rng = np.random.default_rng(seed)
    if groups is not None:
        strata = np.zeros(len(values), int) if strata is None else strata
        return _grouped_auroc(values, labels, groups, strata, n_resamples, level, rng)
    if strata is not None:
        raise EstimateError("AUROC within strata needs groups", mend="Give groups too.")
    draws = []
    for rows in _draw_rows(len(values), n_resamples, rng, as_draws=True):
        picked_pos = pos[(rows[:, : len(pos)] * len(pos)).astype(np.int64)]
        picked_neg = neg[(rows[:, len(pos) :] * len(neg)).astype(np.int64)]
        draws.append(_rank_area(picked_pos, picked_neg))
    value = _rank_area(pos[None], neg[None])[0]
    return _interval(float(value), np.concatenate(draws), len(values), level)


def _check_bootstrap(
    arrays: list[np.ndarray],
    paired: bool,
    groups: Sequence[object] | np.ndarray | None,
    n_resamples: int,
    level: float,
) -> None:
    lengths = [len(array) for array in arrays]
    if not lengths or min(lengths) == 0:
        raise EstimateError("A bootstrap needs at least one observation")
    if paired and len(set(lengths)) > 1:
        raise EstimateError(f"Paired samples differ in length: {lengths}")
    if groups is not None and not paired:
        raise EstimateError("Groups are drawn for paired samples only")
    if groups is not None and len(groups) != lengths[0]:
        raise EstimateError(f"{len(groups)} group labels for {lengths[0]} observations")
    if n_resamples < 1 or not 0 < level < 1:
        raise EstimateError(
            f"A bootstrap cannot have {n_resamples} resamples at level {level}",
            mend="Resamples are at least 1, the level lies between 0 and 1.",
        )


def _group_totals(
    arrays: list[np.ndarray], groups: Sequence[object] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sums per group, [group, sample], and group sizes, [group]; a group per row if none given."""
    table = np.stack(arrays, axis=1)
    if groups is None:
        return table, np.ones(len(table))
    n_groups, code = _codes(groups)
    totals = np.zeros((n_groups, table.shape[1]))
    np.add.at(totals, code, table)
    return totals, np.bincount(code).astype(float)


def _draw_rows(
    n: int, n_resamples: int, rng: np.random.Generator, *, as_draws: bool = False
) -> Iterator[np.ndarray]:
    """Chunks of [resample, n]: row numbers below n, or uniform draws in 0..1."""
    step = max(1, _CHUNK // n)
    for start in range(0, n_resamples, step):
        shape = (min(step, n_resamples - start), n)
        yield rng.random(shape) if as_draws else rng.integers(0, n, shape)


def _draw_counts(n: int, n_resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Chunks of [resample, n]: how often each of n units was drawn in each resample."""
    for rows in _draw_rows(n, n_resamples, rng):
        cells = rows + np.arange(len(rows))[:, None] * n
        yield np.bincount(cells.ravel(), minlength=rows.size).reshape(rows.shape).astype(float)


def _apply(function: MeansFunction, means: np.ndarray) -> np.ndarray:
    return np.asarray(function(*means.T), dtype=float)


def _interval(value: float, draws: np.ndarray, n: int, level: float) -> Estimate:
    if n < 2:
        return Estimate(value, np.nan, np.nan, n)
    tail = (1 - level) / 2
    # An undefined resample (0/0) could be anything: it widens both ends. No interpolation, since
    # between infinities that is undefined.
    undefined = np.isnan(draws)
    low = np.quantile(np.where(undefined, -np.inf, draws), tail, method="lower")
    high = np.quantile(np.where(undefined, np.inf, draws), 1 - tail, method="higher")
    return Estimate(value, float(low), float(high), n)


def _grouped_auroc(
    values: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[object] | np.ndarray,
    strata: Sequence[object] | np.ndarray,
    n_resamples: int,
    level: float,
    rng: np.random.Generator,
) -> Estimate:
    """AUROC of pairs within strata, groups drawn within them."""
    if len(strata) != len(values):
        raise EstimateError(f"{len(strata)} strata for {len(values)} observations")
    n_strata, stratum = _codes(strata)
    _, group = _codes(groups)
    drawn, whole, n_groups = np.zeros((2, n_resamples)), np.zeros((2, 1)), 0
    for number in range(n_strata):
        here = stratum == number
        pairs = _group_pairs(values[here], labels[here], group[here])
        n_groups += (n := len(pairs[1]))
        chunks = [_count_pairs(counts, *pairs) for counts in _draw_counts(n, n_resamples, rng)]
        drawn += np.concatenate(chunks, axis=1)
        whole += _count_pairs(np.ones((1, n)), *pairs)
    if not whole[1, 0]:
        raise EstimateError("No stratum has both a positive and a negative")
    with np.errstate(invalid="ignore"):
        found = _interval(float(whole[0, 0] / whole[1, 0]), drawn[0] / drawn[1], n_groups, level)
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0), n_groups)


def _group_pairs(
    values: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs won [group of the positive, group of the negative]; positives, negatives [group]."""
    n_groups, code = _codes(group)
    pos, neg = np.eye(n_groups)[code[labels]], np.eye(n_groups)[code[~labels]]
    ahead = values[labels][:, None] - values[~labels]
    won = pos.T @ ((ahead > 0) + 0.5 * (ahead == 0)) @ neg
    return won, pos.sum(axis=0), neg.sum(axis=0)


def _count_pairs(
    counts: np.ndarray, won: np.ndarray, n_pos: np.ndarray, n_neg: np.ndarray
) -> np.ndarray:
    """Pairs won, and all pairs, of groups drawn so often: [2, resample] of [resample, group]."""
    return np.stack(
        [np.einsum("rg,rg->r", counts @ won, counts), (counts @ n_pos) * (counts @ n_neg)]
    )


def _codes(groups: Sequence[object] | np.ndarray) -> tuple[int, np.ndarray]:
    """Number of groups, and the number of each observation's group."""
    codes: dict[object, int] = {}
    code = np.array([codes.setdefault(group, len(codes)) for group in groups])
    return len(codes), code


def _rank_area(pos: np.ndarray, neg: np.ndarray) -> np.ndarray:
    """AUROC of each row: pos [resample, positive], neg [resample, negative]."""
    n_pos, n_neg = pos.shape[1], neg.shape[1]
    ranks = stats.rankdata(np.concatenate([pos, neg], axis=1), axis=1)
    return (ranks[:, :n_pos].sum(axis=1) - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)
