"""Estimates against plain loops, known answers and their own promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from broca import estimates
from broca.errors import EstimateError

RNG = np.random.default_rng(0)


def test_same_seed_same_interval_other_seed_another():
    values = RNG.normal(size=40)
    first, again, other = (estimates.bootstrap_mean(values, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_chunks_change_nothing(monkeypatch):
    values = RNG.normal(size=25)
    whole = estimates.bootstrap_mean(values, n_resamples=300)
    monkeypatch.setattr("broca.estimates.samples.CHUNK", 100)
    assert estimates.bootstrap_mean(values, n_resamples=300) == whole


def test_groups_widen_the_interval_of_repeated_observations():
    base = RNG.normal(size=20)
    values, groups = np.repeat(base, 10), np.repeat(np.arange(20), 10).tolist()
    grouped = estimates.bootstrap_mean(values, groups=groups, seed=1)
    naive = estimates.bootstrap_mean(values, seed=1)
    once = estimates.bootstrap_mean(base, seed=1)
    assert grouped.n == 20
    assert grouped.low == pytest.approx(once.low)
    assert grouped.high == pytest.approx(once.high)
    assert (grouped.high - grouped.low) > 2 * (naive.high - naive.low)


def test_groups_of_unequal_size_give_the_mean_over_observations():
    values, sizes = RNG.normal(size=24), RNG.integers(1, 5, 24)
    groups = np.repeat(np.arange(24), sizes)
    found = estimates.bootstrap_mean(np.repeat(values, sizes), groups=groups)
    assert found.value == pytest.approx((values * sizes).sum() / sizes.sum())
    assert (found.n, found.kind) == (24, "BCa")


def test_paired_difference_keeps_the_pairs():
    a = RNG.normal(size=50) * 10
    estimate = estimates.bootstrap_paired(a + 1, a)
    assert estimate.value == pytest.approx(1)
    assert estimate.low == pytest.approx(1)
    assert estimate.high == pytest.approx(1)


def test_paired_comparison_of_two_methods():
    own = RNG.normal(1, 1, 60)

    def gain(a, b, c, d):
        return estimates.absolute_gap(a, b) - estimates.absolute_gap(c, d)

    same = estimates.bootstrap(gain, own, own * 0.1, own, own * 0.1)
    assert (same.low, same.high) == (0.0, 0.0)
    better = estimates.bootstrap(gain, own, own * 0.1, own * 0.5, own * 0.1)
    assert better.low > 0


def test_one_observation_has_no_interval():
    e = estimates.bootstrap_mean([2.0])
    assert e.value == 2.0
    assert np.isnan(e.low)
    assert np.isnan(e.high)


def test_an_estimate_prints_itself():
    assert str(estimates.Estimate(0.5, 0.25, 0.75, 8)) == "0.5 [0.25, 0.75], n = 8"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimates.bootstrap_mean([]), "at least one"),
        (lambda: estimates.bootstrap_mean([1, np.nan]), "NaN"),
        (lambda: estimates.bootstrap_mean([[1, 2]]), "one-dimensional"),
        (lambda: estimates.bootstrap_paired([1, 2], [1]), "differ in length"),
        (lambda: estimates.bootstrap_mean([1, 2], groups=["a"]), "group labels"),
        (lambda: estimates.bootstrap_mean([1, 2], level=95), "level"),
        (lambda: estimates.sign_flip_test([]), "at least one difference"),
        (lambda: estimates.sign_flip_test([1.0], n_permutations=0), "at least one permutation"),
        (lambda: estimates.sign_flip_test([1.0], alternative="both"), "alternative"),  # type: ignore[arg-type]
        (lambda: estimates.random_sets_test(1.0, []), "at least one random set"),
        (lambda: estimates.holm([0.1, 1.2]), "between 0 and 1"),
        (lambda: estimates.wilcoxon_test([1, 2], [1]), "Paired samples"),
        (lambda: estimates.wilcoxon_test([]), "at least one"),
        (lambda: estimates.rank_sum_test([1.0], []), "both samples"),
        (lambda: estimates.auroc([1, 2], [True, True]), "one negative"),
        (lambda: estimates.auroc([1, 2], [True]), "labels"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(EstimateError, match=message):
        call()


def plain_sign_flip(values, alternative):
    sums = [np.dot(signs, values) for signs in itertools.product((1, -1), repeat=len(values))]
    observed = np.sum(values)
    if alternative == "two-sided":
        return np.mean([abs(s) >= abs(observed) - 1e-9 for s in sums])
    if alternative == "less":
        return np.mean([s <= observed + 1e-9 for s in sums])
    return np.mean([s >= observed - 1e-9 for s in sums])


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=8),
    st.sampled_from(["greater", "less", "two-sided"]),
)
def test_small_sign_flips_are_enumerated(values, alternative):
    p = estimates.sign_flip_test(np.array(values) / 10, alternative=alternative)
    assert p == pytest.approx(plain_sign_flip(np.array(values) / 10, alternative))


def test_random_sign_flips_approach_the_exact_value():
    values = RNG.normal(0.3, 1, 16)
    exact = estimates.sign_flip_test(values)
    zeros = np.zeros(4)  # four zeros change no sum, but make the test random
    drawn = estimates.sign_flip_test(np.concatenate([values, zeros]), n_permutations=20_000)
    assert drawn == pytest.approx(exact, abs=0.02)


def test_sign_flip_p_is_never_zero_and_one_without_any_difference():
    assert estimates.sign_flip_test(np.ones(50), n_permutations=99) == pytest.approx(0.01)
    assert estimates.sign_flip_test(np.zeros(5)) == 1.0


def test_sign_flip_p_is_uniform_under_the_null():
    rng = np.random.default_rng(11)
    p = [
        estimates.sign_flip_test(rng.normal(size=20), n_permutations=199, seed=i)
        for i in range(400)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.mean(np.array(p) <= 0.05) < 0.09


def test_random_sets():
    controls = np.arange(1, 20)  # 19 controls
    assert estimates.random_sets_test(100, controls) == pytest.approx(1 / 20)
    assert estimates.random_sets_test(19, controls) == pytest.approx(2 / 20)
    assert estimates.random_sets_test(0, controls, alternative="less") == pytest.approx(1 / 20)
    assert estimates.random_sets_test(0, controls, alternative="two-sided") == pytest.approx(1 / 20)
    assert estimates.random_sets_test(10, controls, alternative="two-sided") == 1.0


def test_holm_known_answer_order_and_undefined():
    adjusted = estimates.holm([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06, 0.02])
    assert len(estimates.holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_keeps_the_order_and_stays_below_one(p):
    adjusted = estimates.holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_rank_tests_agree_with_scipy_and_settle_the_undefined():
    a, b = RNG.normal(size=12), RNG.normal(1, 1, 12)
    assert estimates.wilcoxon_test(a, b).p == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert estimates.rank_sum_test(a, b).p == pytest.approx(stats.mannwhitneyu(a, b).pvalue)
    assert estimates.wilcoxon_test([0.0, 0.0]) == (0.0, 1.0, 0)
    assert estimates.rank_sum_test([1.0, 1], [1.0]).p == 1.0
    assert estimates.wilcoxon_test([1.0, 1, -1, 0]).n == 3


def test_auroc_equals_counting_pairs():
    scores = RNG.integers(0, 5, 40).astype(float)
    labels = RNG.random(40) < 0.4
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels] for n in scores[~labels]]
    e = estimates.auroc(scores, labels, n_resamples=300)
    assert e.value == pytest.approx(np.mean(pairs))
    assert e.low <= e.value <= e.high
    perfect = estimates.auroc(np.arange(20), np.arange(20) >= 10)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.7 < perfect.low < 0.95
