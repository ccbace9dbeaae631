"""The area under the ROC curve with its interval.

Independent observations: DeLong's variance (1988) on the logit scale, and the score interval after
Hanley and McNeil (Newcombe 2006, method 5) where one side is separated from the other without
exception, so that an area of 1 does not come with [1, 1]. Groups: whole groups are drawn, within
their stratum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from broca.errors import EstimateError
from broca.estimates.estimate import FEWEST, Estimate, without_interval
from broca.estimates.samples import Groups, check_samples, codes, draw_counts, finite_values


def auroc(
    scores: ArrayLike,
    positive: ArrayLike,
    *,
    groups: Groups = None,
    strata: Groups = None,
    seed: int = 0,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Area under the ROC curve: how often a positive scores above a negative, ties half.

    With groups, whole groups are drawn; a resample that lacks positives or negatives could be
    anything from 0 to 1. With strata, scores are compared within a stratum only (pairs won in all /
    pairs in all), and groups are drawn within their stratum.

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
    check_samples([values], groups, level, n_resamples)
    if groups is not None:
        strata = np.zeros(len(values), int) if strata is None else strata
        rng = np.random.default_rng(seed)
        return _grouped(values, labels, groups, strata, n_resamples, level, rng)
    if strata is not None:
        raise EstimateError("AUROC within strata needs groups", mend="Give groups too.")
    return _independent(pos, neg, level)


def _independent(pos: np.ndarray, neg: np.ndarray, level: float) -> Estimate:
    won = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    value, n = float(won.mean()), len(pos) + len(neg)
    if min(len(pos), len(neg)) < 2 or n < FEWEST:
        return without_interval(value, n)
    variance = won.mean(axis=1).var(ddof=1) / len(pos) + won.mean(axis=0).var(ddof=1) / len(neg)
    z = float(stats.norm.ppf((1 + level) / 2))
    if not variance or value in (0.0, 1.0):
        return Estimate(value, *_score_ends(value, len(pos), len(neg), z), n, "Newcombe")
    logit, half = np.log(value / (1 - value)), z * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
    return Estimate(value, float(low), float(high), n, "DeLong, logit")


def _score_ends(value: float, n_pos: int, n_neg: int, z: float) -> tuple[float, float]:
    """Areas whose distance from the value is z of their own standard errors."""
    more = (n_pos + n_neg) / 2 - 1

    def beyond(area: float) -> float:
        within = 1 + more * (1 - area) / (2 - area) + more * area / (1 + area)
        return abs(area - value) - z * np.sqrt(area * (1 - area) * within / (n_pos * n_neg))

    tiny = 1e-9
    low = optimize.brentq(beyond, tiny, value - tiny) if value > 2 * tiny else 0.0
    high = optimize.brentq(beyond, value + tiny, 1 - tiny) if value < 1 - 2 * tiny else 1.0
    return float(low), float(high)  # pyright: ignore[reportArgumentType]


def _grouped(
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
    n_strata, stratum = codes(strata)
    _, group = codes(groups)
    drawn, whole, n_groups = np.zeros((2, n_resamples)), np.zeros((2, 1)), 0
    for number in range(n_strata):
        here = stratum == number
        pairs = _group_pairs(values[here], labels[here], group[here])
        n_groups += (n := len(pairs[1]))
        chunks = [_count_pairs(counts, *pairs) for counts in draw_counts(n, n_resamples, rng)]
        drawn += np.concatenate(chunks, axis=1)
        whole += _count_pairs(np.ones((1, n)), *pairs)
    if not whole[1, 0]:
        raise EstimateError("No stratum has both a positive and a negative")
    value = float(whole[0, 0] / whole[1, 0])
    if n_groups < FEWEST:
        return without_interval(value, n_groups)
    with np.errstate(invalid="ignore"):
        areas = drawn[0] / drawn[1]
    tail, undefined = (1 - level) / 2, np.isnan(areas)
    low = np.quantile(np.where(undefined, 0.0, areas), tail, method="lower")
    high = np.quantile(np.where(undefined, 1.0, areas), 1 - tail, method="higher")
    return Estimate(value, float(low), float(high), n_groups, "bootstrap of groups")


def _group_pairs(
    values: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs won [group of the positive, group of the negative]; positives, negatives [group]."""
    n_groups, code = codes(group)
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
