"""What a test can reach at best: known before a run, so that none ends in a test it cannot pass."""

from __future__ import annotations

import math


def fewest_to_flip(alpha: float = 0.05, tests: int = 1) -> int:
    """Observations that a one-sided sign-flip test needs to reach alpha after Holm's correction.

    The smallest p of n observations is 2⁻ⁿ.

    Args:
        alpha: Level of significance.
        tests: Tests in the family.
    """
    return math.ceil(math.log2(tests / alpha))


def fewest_sets(alpha: float = 0.05) -> int:
    """Random sets with which a rank among them can reach alpha: p is at least 1 / (sets + 1).

    The correction by the maximum over a family needs no more; Holm's needs as many times more as
    the family has tests.
    """
    return math.ceil(1 / alpha) - 1 if alpha < 1 else 0
