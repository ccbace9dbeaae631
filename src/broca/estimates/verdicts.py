"""The scale of verdicts: what a number, its interval and its p-value allow to be said.

A "yes" needs a size: the whole interval beyond the smallest effect of interest, not beyond 0. An
interval that holds 0 is no evidence of absence: "no" needs the whole interval below that size.
"""

from __future__ import annotations

import math
from typing import Literal

from broca.estimates.estimate import Estimate

Verdict = Literal["yes", "small", "not shown", "no", "cannot tell"]
Interval = tuple[float, float]

AGREES = 0.5  # correlation with the truth, and share of it found, from which on numbers tell it


def judge(
    effect: Estimate,
    smallest: float,
    *,
    p: float | None = None,
    alpha: float = 0.05,
    reachable: bool = True,
) -> Verdict:
    """The verdict on an effect whose wanted direction is upwards.

    Args:
        effect: The effect beyond its control.
        smallest: Smallest effect of interest, above 0.
        p: Corrected p-value against the control, where there is a test.
        alpha: Level of significance.
        reachable: Whether the test could have reached alpha at all.

    Returns:
        "yes": beyond the smallest effect of interest, and significant. "small": above 0 and
        significant, not surely beyond it. "no": surely below it. "not shown": neither.
        "cannot tell": no interval, or a test that could not have been passed.
    """
    known = not (math.isnan(effect.low) or math.isnan(effect.high))
    if not reachable or not known or (p is not None and math.isnan(p)):
        return "cannot tell"
    significant = p is None or p < alpha
    if significant and effect.low > smallest:
        return "yes"
    if significant and effect.low > 0:
        return "small"
    return "no" if effect.high < smallest else "not shown"


def judge_agreement(correlation: Interval, recall: Interval) -> str:
    """The verdict on numbers that are held against the truth, by both ways of looking at them.

    Args:
        correlation: Ends of the interval of their rank correlation with the true effects.
        recall: Ends of that of the share of the largest effects that they find.

    Returns:
        "yes": both surely above :data:`AGREES`. "in part": one of them. "no": both surely below.
        "not shown": none of these. "cannot tell": no interval.
    """
    both = (correlation, recall)
    if any(math.isnan(end) for ends in both for end in ends):
        return "cannot tell"
    above = [low > AGREES for low, _ in both]
    if all(above):
        return "yes"
    if all(high < AGREES for _, high in both):
        return "no"
    return "in part" if any(above) else "not shown"
