"""p-values by permutation, and the correction over many of them: Holm's, or by the maximum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from broca.errors import EstimateError
from broca.estimates.samples import CHUNK, Alternative, finite_values, oriented

EXACT_SIGN_FLIPS = 16  # up to this n all 2**n sign patterns are enumerated


def sign_flip_test(
    differences: ArrayLike,
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
    alternative: Alternative = "greater",
) -> float:
    """p-value of mean difference = 0 when the sign of each difference is arbitrary.

    All sign patterns are enumerated for up to 16 differences; beyond that, random ones are drawn
    and p = (as extreme + 1) / (drawn + 1), which is never 0.

    Args:
        differences: One value per fact or query.
        n_permutations: Number of random sign patterns.
        seed: Seed of the patterns.
        alternative: "greater": the mean is above 0; "less"; "two-sided".

    Raises:
        EstimateError: No differences, or one of them not finite.
    """
    values = finite_values(differences)
    if not len(values):
        raise EstimateError("A sign-flip test needs at least one difference")
    if n_permutations < 1:
        raise EstimateError("A permutation test needs at least one permutation")
    values = oriented(values, alternative)
    two_sided = alternative == "two-sided"
    observed = abs(values.sum()) if two_sided else values.sum()
    # Sums of the same numbers in another order differ in the last bits: those are equal.
    threshold = observed - 1e-12 * np.abs(values).sum()
    exact = len(values) <= EXACT_SIGN_FLIPS
    patterns = (
        _all_signs(len(values)) if exact else _random_signs(len(values), n_permutations, seed)
    )
    extreme = total = 0
    for signs in patterns:
        sums = signs @ values
        extreme += int(np.count_nonzero((np.abs(sums) if two_sided else sums) >= threshold))
        total += len(sums)
    return extreme / total if exact else (extreme + 1) / (total + 1)


def random_sets_test(
    observed: float, controls: ArrayLike, *, alternative: Alternative = "greater"
) -> float:
    """p-value of a statistic against the same statistic of matched random sets or shuffles.

    p = (controls at least as extreme + 1) / (controls + 1). Two-sided: distance from the
    controls' mean.

    Args:
        observed: The statistic of the set under test.
        controls: The statistic of each random set, [draw].
        alternative: "greater", "less" or "two-sided".

    Raises:
        EstimateError: No controls, or a number that is not finite.
    """
    values, point = finite_values(controls), finite_values([observed])[0]
    if not len(values):
        raise EstimateError("A test against random sets needs at least one random set")
    if alternative == "two-sided":
        centre = values.mean()
        values, point = np.abs(values - centre), abs(point - centre)
    else:
        values, point = oriented(values, alternative), oriented(point, alternative)
    return (int(np.count_nonzero(values >= point)) + 1) / (len(values) + 1)


def max_statistic_test(observed: ArrayLike, controls: ArrayLike) -> np.ndarray:
    """p-values of many statistics, each against its own random sets, corrected over the family.

    Westfall and Young's step-down maximum (1993): every family's values are brought to one scale
    (mean and spread of its random sets and the observed one), draw j of all families is one draw of
    the maximum, and p = (draws whose maximum is at least as large + 1) / (draws + 1). So 20 random
    sets are enough to pass .05 however many families there are, where Holm needs 20 times as many
    as there are families.

    Args:
        observed: The statistic of each family's own set, [family]; large is unusual. A NaN stays
            NaN and is no part of the family.
        controls: The same of its random sets, [family, draw]; draw j of one family belongs to
            draw j of the others.

    Raises:
        EstimateError: No draws, shapes that do not fit, or an infinite value.
    """
    own, drawn = np.asarray(observed, float), np.asarray(controls, float)
    if drawn.ndim != 2 or drawn.shape[0] != len(own) or not drawn.shape[1]:
        raise EstimateError(
            f"Statistics of shape {own.shape} and random sets of shape {drawn.shape} do not fit",
            mend="Give one row of draws per statistic, and at least one draw.",
        )
    adjusted = np.full(len(own), np.nan)
    tested = np.isfinite(own) & np.isfinite(drawn).all(axis=1)
    if np.isinf(own).any() or np.isinf(drawn).any():
        raise EstimateError("A test against random sets needs finite values")
    if not tested.any():
        return adjusted
    every = np.column_stack([own[tested], drawn[tested]])
    spread = every.std(axis=1, keepdims=True)
    scaled = (every - every.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    order = np.argsort(-scaled[:, 0], kind="stable")
    # The largest of a statistic and of all less extreme ones, from the end backwards.
    largest = np.maximum.accumulate(scaled[order][::-1, 1:], axis=0)[::-1]
    p = (np.sum(largest >= scaled[order, :1] - 1e-12, axis=1) + 1) / every.shape[1]
    stepped = np.empty(len(order))
    stepped[order] = np.maximum.accumulate(p)
    adjusted[tested] = stepped
    return adjusted


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values, in the order given.

    A NaN (a test that could not be made) stays NaN and is not counted among the tests.

    Raises:
        EstimateError: A p-value outside 0..1.
    """
    p = np.asarray(p_values, float)
    tested = ~np.isnan(p)
    if np.any((p[tested] < 0) | (p[tested] > 1)):
        raise EstimateError("p-values lie between 0 and 1")
    order = np.argsort(p[tested], kind="stable")
    factors = np.arange(tested.sum(), 0, -1)
    raised = np.minimum(np.maximum.accumulate(p[tested][order] * factors), 1.0)
    adjusted = np.empty(len(order))
    adjusted[order] = raised
    out = np.full(p.shape, np.nan)
    out[tested] = adjusted
    return out


def _all_signs(n: int) -> Iterator[np.ndarray]:
    patterns = np.arange(1 << n)[:, None] >> np.arange(n)
    yield 1.0 - 2.0 * (patterns & 1)


def _random_signs(n: int, n_permutations: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    for start in range(0, n_permutations, step):
        shape = (min(step, n_permutations - start), n)
        yield 1.0 - 2.0 * rng.integers(0, 2, shape, dtype=np.int8)
