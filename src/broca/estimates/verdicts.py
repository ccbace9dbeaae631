"""The scale of verdicts: what a number, its interval and its p-value allow to be said.

A "yes" needs a size: the whole interval beyond the smallest effect of interest, not beyond 0. An
interval that holds 0 is no evidence of absence: "no" needs the whole interval below that size.
"""

from __future__ import annotations

import math
from typing import Literal

from broca.estimates.estimate import Estimate

Verdict = Literal["yes", "small", "not shown", "no", "cannot tell"]


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
