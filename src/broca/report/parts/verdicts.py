"""What the first screen may say of an interval: more, no more, or that it cannot be told.

An interval that holds 0 is no evidence of equality. "No more" and "as well" are said only where
it excludes differences of `MARGIN` and beyond.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from broca.report.stored_run import StoredRun

NEAR_CHANCE = "This run cannot tell: near chance"
MARGIN = 0.05  # differences of shares that are taken for none
WITHIN = f"within {MARGIN * 100:.0f} points"

Verdict = Literal["more", "no more", "cannot be told"]


def is_near_chance(run: StoredRun, study: str) -> bool:
    """Whether the model knows so little that the study says nothing about knowledge."""
    return any(record["near_chance"] for record in run.table(study, "caution"))


def judge_more(record: Mapping[str, Any], name: str) -> Verdict:
    """Whether a difference lies above 0, by its interval.

    Args:
        record: Holds the ends as `<name>_low` and `<name>_high`; None where there is no interval.
        name: Of the difference.
    """
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    if low is None or high is None:
        return "cannot be told"
    return "more" if low > 0 else "no more" if high < MARGIN else "cannot be told"


def is_as_good(record: Mapping[str, Any], name: str) -> bool:
    """Whether a difference is surely not below 0 by as much as the margin."""
    low = record[f"{name}_low"]
    return low is not None and low > -MARGIN
