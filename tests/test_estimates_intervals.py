"""Intervals and family-wise tests against plain loops, one resample or draw after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from broca import estimates
from broca.errors import EstimateError

RNG = np.random.default_rng(1)


def plain_bca(values, seed, n_resamples):
    """Efron's interval with Hesterberg's widening."""
    n = len(values)
    rows = np.random.default_rng(seed).integers(0, n, (n_resamples, n))
    means = sorted(np.mean([values[i] for i in row]) for row in rows)
    value = np.mean(values)
    below = sum(m < value for m in means) + sum(m == value for m in means) / 2
    z0 = stats.norm.ppf(below / n_resamples)
    left_out = np.array([np.mean(np.delete(values, i)) for i in range(n)])
    away = left_out.mean() - left_out
    a = sum(away**3) / (6 * sum(away**2) ** 1.5)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    ends = []
    for share in (tail, 1 - tail):
        z = z0 + stats.norm.ppf(share)
        ends.append((n_resamples - 1) * stats.norm.cdf(z0 + z / (1 - a * z)))
    return means[int(np.floor(ends[0]))], means[int(np.ceil(ends[1]))]


def test_bca_equals_a_plain_loop():
    values = RNG.exponential(size=30)
    fast = estimates.bootstrap_mean(values, seed=3, n_resamples=500)
    assert fast.value == pytest.approx(values.mean())
    assert (fast.low, fast.high) == pytest.approx(plain_bca(values, 3, 500))
    assert (fast.n, fast.kind) == (30, "BCa")


def test_few_observations_have_students_interval_and_fewer_than_five_none():
    values = RNG.normal(size=12)
    few = estimates.bootstrap_mean(values)
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    assert few.kind == "t"
    assert (few.low, few.high) == pytest.approx((values.mean() - half, values.mean() + half))
    for make in (estimates.bootstrap_mean, estimates.median):
        none = make(values[:4])
        assert np.isnan([none.low, none.high]).all()
        assert "too few" in str(none)
    assert np.isnan(estimates.share([True] * 4).low)
    assert np.isnan(estimates.ratio(values[:4], values[:4]).high)


def test_the_median_lies_between_observations():
    e = estimates.median([1.0, 2, 3, 4, 100, 101])
    assert (e.value, e.low, e.high) == (3.5, 1.0, 101.0)
    twenty = estimates.median(np.arange(20.0))
    assert (twenty.low, twenty.high) == (5.0, 14.0)  # ranks 6 and 15, exact coverage .959


# ---- ratios


def plain_fieller(a, b, grid):
    """Sizes of all ratios that a t test does not refute."""
    n, bound = len(a), stats.t.ppf(0.975, len(a) - 1)
    kept = []
    for ratio in grid:
        rest = a - ratio * b
        if abs(rest.mean()) <= bound * rest.std(ddof=1) / np.sqrt(n):
            kept.append(abs(ratio))
    return min(kept), max(kept)


@pytest.mark.parametrize("kind", ["correlated", "around 0", "negative"])
def test_the_ratio_holds_what_a_t_test_does_not_refute(kind):
    b = RNG.normal(2, 0.5, 30)
    a = {"correlated": RNG.normal(4, 1, 30) + b, "around 0": RNG.normal(0, 1, 30)}.get(
        kind, -b - RNG.normal(1, 0.2, 30)
    )
    found = estimates.ratio(a, b)
    low, high = plain_fieller(a, b, np.linspace(-10, 10, 40_001))
    assert found.low == pytest.approx(low, abs=1e-3)
    assert found.high == pytest.approx(high, abs=1e-3)
    assert found.low <= found.value <= found.high


def test_a_ratio_without_a_denominator_has_no_upper_end():
    noise = RNG.normal(0, 1, 40)
    noise -= noise.mean() - 1e-3  # its interval holds 0
    found = estimates.ratio(RNG.normal(50, 1, 40), noise)
    assert found.high == np.inf
    assert 0 < found.low <= found.value
    assert "unbounded" in str(found)
    flat = estimates.ratio(np.ones(9), np.zeros(9))
    assert (flat.value, flat.high) == (np.inf, np.inf)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.floats(-2, 2), st.integers(5, 40))
def test_no_ratio_lies_outside_its_interval(seed, up, down, n):
    rng = np.random.default_rng(seed)
    found = estimates.ratio(rng.normal(up, 1, n), rng.normal(down, 1, n))
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_groups_of_one_ratio_are_no_further_evidence():
    a, b = RNG.normal(2, 1, 20), RNG.normal(3, 1, 20)
    once = estimates.ratio(a, b)
    many = estimates.ratio(np.repeat(a, 5), np.repeat(b, 5), groups=np.repeat(np.arange(20), 5))
    assert (many.low, many.high, many.n) == pytest.approx((once.low, once.high, 20))


# ---- shares


def test_a_share_of_all_is_not_certain():
    found = estimates.share([True] * 20)
    assert (found.value, found.n) == (1.0, 20)
    assert found.low == pytest.approx(0.8389, abs=1e-4)
    assert found.high == 1.0
    with pytest.raises(EstimateError, match="between 0 and 1"):
        estimates.share([0.0, 2.0])


def test_a_fact_asked_often_is_one_fact():
    hits = [1, 0, 1, 1, 0, 1]
    once = estimates.share(hits)
    copied = estimates.share(np.repeat(hits, 10), groups=np.repeat(np.arange(6), 10))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=0.05)
    mixed = estimates.share(RNG.random(200) < 0.5, groups=np.repeat(np.arange(20), 10))
    assert mixed.high - mixed.low < 0.25  # observations that differ within groups do count


def test_wilson_solves_its_own_equation():
    for share, n in ((0.0, 7), (0.3, 10), (0.99, 200)):
        for end in estimates.wilson(share, n):
            if 0 < end < 1:
                distance = abs(end - share) / np.sqrt(end * (1 - end) / n)
                assert distance == pytest.approx(stats.norm.ppf(0.975))


def test_a_relative_loss_is_what_was_lost_of_what_was_right():
    before = np.array([1] * 20 + [0] * 10)
    after = np.zeros(30)
    everything = estimates.relative_loss(before, after)
    assert (everything.value, everything.high) == (1.0, 1.0)
    assert everything.low == pytest.approx(estimates.share([True] * 20).low)
    after[20:25] = 1  # five that were wrong are right now
    gained = estimates.relative_loss(before, after)
    assert gained.value == pytest.approx((20 - 5) / 20)
    assert gained.low < 0.75 < gained.high
    assert np.isnan(estimates.relative_loss([0] * 8, [1] * 8).value)


# ---- families of tests


def plain_max_statistic(own, drawn):
    every = np.column_stack([own, drawn])
    z = (every - every.mean(1, keepdims=True)) / every.std(1, keepdims=True)
    order = sorted(range(len(own)), key=lambda i: -z[i, 0])
    p, last = [0.0] * len(own), 0.0
    for place, i in enumerate(order):
        rest = order[place:]
        beyond = sum(max(z[r, 1 + d] for r in rest) >= z[i, 0] for d in range(drawn.shape[1]))
        last = p[i] = max(last, (beyond + 1) / (drawn.shape[1] + 1))
    return p


def test_the_largest_over_a_family_equals_a_plain_loop():
    own, drawn = RNG.normal(1, 1, 6), RNG.normal(size=(6, 30))
    found = estimates.max_statistic_test(own, drawn)
    np.testing.assert_allclose(found, plain_max_statistic(own, drawn))
    own[2] = np.nan
    found = estimates.max_statistic_test(own, drawn)
    assert np.isnan(found[2])
    rest = np.arange(6) != 2
    np.testing.assert_allclose(found[rest], plain_max_statistic(own[rest], drawn[rest]))
    # twenty sets are enough, however many families
    far = estimates.max_statistic_test(np.full(12, 9.0), RNG.normal(size=(12, 20)))
    np.testing.assert_allclose(far, 1 / 21)
    with pytest.raises(EstimateError, match="do not fit"):
        estimates.max_statistic_test([1.0], [[1.0], [2.0]])


def test_what_a_test_can_reach():
    assert estimates.fewest_to_flip() == 5
    assert estimates.sign_flip_test(np.ones(5)) < 0.05 < estimates.sign_flip_test(np.ones(4))
    assert estimates.fewest_to_flip(tests=12) == 8
    assert estimates.holm([estimates.sign_flip_test(np.ones(8))] * 12)[0] < 0.05
    assert estimates.fewest_sets() == 19
    assert estimates.random_sets_test(1, np.zeros(19)) <= 0.05


# ---- areas


def test_auroc_has_delongs_error():
    labels = np.arange(60) < 25
    scores = RNG.normal(size=60) + labels
    won = (scores[labels][:, None] > scores[~labels]).astype(float)
    value = won.mean()
    error = np.sqrt(won.mean(1).var(ddof=1) / 25 + won.mean(0).var(ddof=1) / 35)
    found = estimates.auroc(scores, labels)
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    assert logit(found.high) - logit(value) == pytest.approx(
        stats.norm.ppf(0.975) * error / (value * (1 - value))
    )
