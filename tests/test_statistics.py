"""What the statistics promise, simulated: sizes of tests under their own null, coverage.

`docs/statistics.md` holds the table that the slow part makes (`python tests/test_statistics.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from broca import estimates
from broca.estimates import Estimate

ALPHA = 0.05
SIZES = (6, 10, 20, 50)
TRIALS = 1500

Rng = np.random.Generator


def rejections(p_value: Callable[[Rng], float], trials: int = TRIALS, seed: int = 0) -> float:
    """Share of trials in which a true null is rejected at .05."""
    rng = np.random.default_rng(seed)
    return float(np.mean([p_value(rng) <= ALPHA for _ in range(trials)]))


# ---- sizes of tests: data of their own null


def flipped_effects(rng: Rng) -> float:
    values = rng.standard_t(4, 20)
    return estimates.sign_flip_test(values, n_permutations=999, seed=int(rng.integers(1 << 30)))


def flipped_both_sides(rng: Rng) -> float:
    values = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=60) + rng.normal(0, 0.01, 60)
    seed = int(rng.integers(1 << 30))
    return estimates.sign_flip_test(values, n_permutations=999, seed=seed, alternative="two-sided")


def own_among_matched(rng: Rng) -> float:
    """Rank of one random set among 39 others: facts differ, and so do sets."""
    facts, sets = rng.normal(0, 2, 30), rng.normal(0, 1, 40)
    losses = (facts[:, None] + sets + rng.normal(0, 1, (30, 40))).mean(axis=0)
    return estimates.random_sets_test(losses[0], losses[1:])


def ranks_of_differences(rng: Rng) -> float:
    return estimates.wilcoxon_test(rng.standard_t(3, 18)).p


def ranks_of_two_samples(rng: Rng) -> float:
    return estimates.rank_sum_test(rng.exponential(size=25), rng.exponential(size=30)).p


TESTS = {
    "sign flips over facts, one-sided": flipped_effects,
    "sign flips over facts, two-sided": flipped_both_sides,
    "rank of the own set among matched sets": own_among_matched,
    "Wilcoxon signed ranks": ranks_of_differences,
    "rank sums": ranks_of_two_samples,
}


@pytest.mark.parametrize("name", TESTS)
def test_every_test_has_its_size(name: str) -> None:
    assert 0.03 <= rejections(TESTS[name]) <= 0.07, name


# ---- families: any rejection is one


def holm_family(rng: Rng) -> float:
    """Twelve relations, sign flips over 20 facts each."""
    p = [
        estimates.sign_flip_test(rng.normal(size=20), n_permutations=999, seed=i) for i in range(12)
    ]
    return float(estimates.holm(p).min())


def largest_over_relations(rng: Rng) -> float:
    """Twelve relations that share prompts, so that their sets' losses go together."""
    losses = rng.normal(size=(12, 40)) + rng.normal(size=40) + rng.normal(0, 3, (12, 1))
    return float(estimates.max_statistic_test(losses[:, 0], losses[:, 1:]).min())


FAMILIES = {
    "Holm over 12 sign-flip tests": holm_family,
    "maximum over 12 relations": largest_over_relations,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_their_size(name: str) -> None:
    assert 0.03 <= rejections(FAMILIES[name], 1000) <= 0.07, name


def test_flips_over_facts_with_few_sets_are_no_test_of_sets() -> None:
    """Why the verdict is a rank: sets differ, and flips over facts hold four of them fixed."""

    def wrong(rng: Rng) -> float:
        losses = rng.normal(0, 1, 30)[:, None] + rng.normal(0, 0.5, 5) + rng.normal(0, 1, (30, 5))
        against = losses[:, 0] - losses[:, 1:].mean(axis=1)
        return estimates.sign_flip_test(against, n_permutations=499)

    assert rejections(wrong, 400) > 0.1


# ---- coverage


def normal(rng: Rng, n: int) -> tuple[Estimate, float]:
    return estimates.bootstrap_mean(rng.normal(size=n), n_resamples=999), 0.0


def skewed(rng: Rng, n: int) -> tuple[Estimate, float]:
    return estimates.bootstrap_mean(rng.exponential(size=n), n_resamples=999), 1.0


def changes(rng: Rng, n: int) -> tuple[Estimate, float]:
    values = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.5, 0.4], size=n)
    return estimates.bootstrap_mean(values, n_resamples=999), 0.3


def in_groups(rng: Rng, n: int) -> tuple[Estimate, float]:
    """n facts under 4 sets each."""
    values = rng.normal(size=n)[:, None] + rng.normal(size=(n, 4))
    groups = np.repeat(np.arange(n), 4)
    return estimates.bootstrap_mean(values.ravel(), groups=groups, n_resamples=999), 0.0


def gap(rng: Rng, n: int) -> tuple[Estimate, float]:
    a, b = rng.normal(-2, 1, n), rng.normal(0.8, 1, n)
    return estimates.bootstrap(estimates.absolute_gap, a, b, n_resamples=999), 1.2


def middle_share(rng: Rng, n: int) -> tuple[Estimate, float]:
    return estimates.share(rng.random(n) < 0.6), 0.6


def high_share(rng: Rng, n: int) -> tuple[Estimate, float]:
    return estimates.share(rng.random(n) < 0.9), 0.9


def loss(rng: Rng, n: int) -> tuple[Estimate, float]:
    """acc_drop: .8 right before; half of them lost, a tenth of the others gained."""
    before = rng.random(n) < 0.8
    after = np.where(before, rng.random(n) < 0.5, rng.random(n) < 0.1)
    return estimates.relative_loss(before, after), 0.5 - 0.2 * 0.1 / 0.8


def middle(rng: Rng, n: int) -> tuple[Estimate, float]:
    return estimates.median(rng.exponential(size=n)), float(np.log(2))


def pcr(rng: Rng, n: int) -> tuple[Estimate, float]:
    a = rng.normal(-3, 1, n)
    return estimates.ratio(a, 0.3 * a + rng.normal(1.9, 1, n)), 3.0


def pcr_of_nothing(rng: Rng, n: int) -> tuple[Estimate, float]:
    """A denominator so small that it cannot be told from 0."""
    return estimates.ratio(rng.normal(2, 1, n), rng.normal(0.1, 1, n)), 20.0


def area(rng: Rng, n: int) -> tuple[Estimate, float]:
    """n positives and n negatives, a standard deviation apart."""
    scores = np.concatenate([rng.normal(1, 1, n), rng.normal(0, 1, n)])
    return estimates.auroc(scores, np.arange(2 * n) < n), 0.7602499389


def area_of_groups(rng: Rng, n: int) -> tuple[Estimate, float]:
    """n questions with 3 prompts each, half of the prompts positive."""
    labels = np.tile([True, False, True, False], n)[: 3 * n]
    groups = np.repeat(np.arange(n), 3)
    scores = labels + 0.5 * np.repeat(rng.normal(size=n), 3) + rng.normal(0, 0.75**0.5, 3 * n)
    return estimates.auroc(scores, labels, groups=groups, n_resamples=999), 0.7602499389


KINDS: dict[str, Callable[[Rng, int], tuple[Estimate, float]]] = {
    "mean, normal values": normal,
    "mean, exponential values": skewed,
    "mean, changes of −1, 0, 1": changes,
    "mean, facts under 4 sets each": in_groups,
    "difference of absolute means": gap,
    "share of .6": middle_share,
    "share of .9": high_share,
    "acc_drop": loss,
    "median, exponential values": middle,
    "PCR (Fieller)": pcr,
    "PCR, denominator near 0": pcr_of_nothing,
    "AUROC (DeLong)": area,
    "AUROC, questions of 3 prompts": area_of_groups,
}


def coverage(kind: str, n: int, trials: int = TRIALS) -> float:
    """How often the interval holds the truth, where there is one."""
    rng = np.random.default_rng([n, len(kind)])
    inside = []
    for _ in range(trials):
        found, truth = KINDS[kind](rng, n)
        if not np.isnan(found.low):
            inside.append(found.low <= truth <= found.high)
    return float(np.mean(inside))


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_at_twenty(kind: str) -> None:
    assert 0.91 <= coverage(kind, 20, 500) <= 0.985, kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [20, 50])
def test_intervals_cover_from_twenty_on(kind: str, n: int) -> None:
    error = 3 * np.sqrt(0.95 * 0.05 / TRIALS)  # of the simulation itself
    assert 0.92 - error <= coverage(kind, n) <= 0.97 + error, (kind, n)


def table() -> Iterator[str]:
    """The tables of `docs/statistics.md`."""
    yield f"| interval of | {' | '.join(f'n = {n}' for n in SIZES)} |"
    yield f"|---|{'---|' * len(SIZES)}"
    for kind in KINDS:
        yield f"| {kind} | {' | '.join(f'{coverage(kind, n):.3f}' for n in SIZES)} |"
    yield ""
    yield "| test | rejects a true null at .05 |"
    yield "|---|---|"
    for name, one in TESTS.items():
        yield f"| {name} | {rejections(one, 4000):.3f} |"
    for name, one in FAMILIES.items():
        yield f"| {name} (any of them) | {rejections(one, 2000):.3f} |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
