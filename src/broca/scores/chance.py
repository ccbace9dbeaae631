"""How good a neuron looks by chance: are there facts enough to rank so many neurons?

1. Under labels that mean nothing, a neuron's prompts are in random order: average precision of a
   random ranking with so many positives and negatives.
2. The share of such rankings that reach the score of a set's last neuron, times all neurons, is how
   many neurons would be in the set by chance.
3. Where that is more than a twentieth of the set, there are too few facts; the number needed is the
   smallest with which it is not, the same score and as many negatives per positive given.

METHODS §2, Expertise; ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special, stats

TOLERATED = 0.05
"""Share of a set that may have got into it by chance."""

MOST = 4096  # positives tried
_DRAWS = 4000


class Chance(NamedTuple):
    """Neurons expected in a set by chance, and positives needed (None where there are enough)."""

    expected: float
    needed: int | None


def chance_in_set(
    last: float, k: int, n_neurons: int, n_positive: int, n_negative: int, seed: int = 0
) -> Chance:
    """How much of a set of the top k neurons chance explains.

    Args:
        last: Average precision of the set's last neuron.
        k: Neurons in the set.
        n_neurons: Neurons ranked.
        n_positive: Prompts of the relation.
        n_negative: Prompts of others.
        seed: Seed of the random rankings.
    """

    def expected(positives: int) -> float:
        negatives = max(1, round(positives * n_negative / n_positive))
        return n_neurons * _tail(last, positives, negatives, seed)

    here = expected(n_positive)
    if here <= TOLERATED * k:
        return Chance(here, None)
    low, high = n_positive, 2 * n_positive
    while high < MOST and expected(high) > TOLERATED * k:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected(middle) > TOLERATED * k else (low, middle)
    return Chance(here, high)


def _tail(last: float, positives: int, negatives: int, seed: int) -> float:
    """Share of random rankings whose average precision is at least `last`.

    Beyond what the draws show, the tail is taken to fall as that of a normal logit does, and never
    below the chance of a perfect ranking.
    """
    rng = np.random.default_rng([seed, positives, negatives])
    n = positives + negatives
    areas = np.empty(_DRAWS)
    step = max(1, (1 << 21) // n)
    for start in range(0, _DRAWS, step):
        size = min(step, _DRAWS - start)
        ranks = np.argpartition(rng.random((size, n)), positives - 1, axis=1)[:, :positives] + 1
        ranks.sort(axis=1)
        areas[start : start + size] = (np.arange(1, positives + 1) / ranks).mean(axis=1)
    seen = np.mean(areas >= last - 1e-12)
    if seen * _DRAWS >= 20:
        return float(seen)
    clipped = np.clip(areas, 1e-9, 1 - 1e-9)
    logits = np.log(clipped / (1 - clipped))
    bound = min(last, 1 - 1 / (2 * n))
    distance = (np.log(bound / (1 - bound)) - logits.mean()) / logits.std()
    perfect = 1 / special.binom(n, positives)
    return float(max(stats.norm.sf(distance), perfect))
