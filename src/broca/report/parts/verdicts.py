"""What the first screen may say of an interval: more, no more, or that it cannot be told.

An interval that holds 0 is no evidence of equality. "No more" and "as well" are said only where
it excludes differences of `MARGIN` and beyond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.estimates import Estimate, judge
from broca.report.page import Answer, Tone
from broca.report.stored_run import StoredRun

MARGIN = 0.05  # differences of shares that are taken for none

SCALE: dict[str, tuple[str, Tone]] = {
    "yes": ("Yes", "yes"),
    "in part": ("In part", "mixed"),
    "small": ("Small effect", "mixed"),
    "not shown": ("Not shown", "plain"),
    "no": ("No", "no"),
    "cannot tell": ("This run cannot tell", "plain"),
}
"""Every verdict of the first screen: its words and its colour."""

MOST = 0.75
"""Share of single verdicts from which on many together are a plain one."""


def answer(question: str, verdict: str, sentence: str) -> Answer:
    """A question of the first screen with a verdict of the scale and the sentence it stands on."""
    words, tone = SCALE[verdict]
    return Answer(question, words, sentence, tone)


def together(verdicts: Sequence[str]) -> str:
    """One verdict of many: of relations, say; those that cannot tell do not count."""
    told = [verdict for verdict in verdicts if verdict != "cannot tell"]
    if not told:
        return "cannot tell"
    for verdict in ("yes", "no"):
        if told.count(verdict) >= MOST * len(told):
            return verdict
    if "yes" in told:
        return "in part"
    return "small" if "small" in told else "not shown"


def points_of(value: float, low: float | None, high: float | None) -> str:
    """A difference of shares in points, with its interval."""
    if low is None or high is None:
        return f"{_points(value)} points"
    return f"{_points(value)} [{_points(low)}, {_points(high)}] points"


def interval_of(record: Mapping[str, Any], name: str) -> str:
    """A change in percent with its interval, where there is one."""
    low, high = record.get(f"{name}_low"), record.get(f"{name}_high")
    ends = f" [{low:+z.1%}, {high:+z.1%}]" if low is not None and high is not None else ""
    return f"{record[name]:+z.1%}{ends}".replace("-", "−")


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return ("0.0" if text == "-0.0" else text).replace("-", "−")


def is_near_chance(run: StoredRun, study: str) -> bool:
    """Whether the model knows so little that the study says nothing about knowledge."""
    return any(record["near_chance"] for record in run.table(study, "caution"))


def judge_record(
    record: Mapping[str, Any],
    name: str,
    *,
    smallest: float = MARGIN,
    p: float | None = None,
    alpha: float = 0.05,
) -> str:
    """The verdict on a stored effect beyond its control, by `broca.estimates.judge`.

    Args:
        record: Holds the effect as `name`, its ends as `<name>_low` and `<name>_high`; None where
            there is none.
        name: Of the effect; upwards is the wanted direction.
        smallest: Smallest effect of interest.
        p: Corrected p-value, where there is a test.
        alpha: Level of significance.
    """
    ends = (record.get(f"{name}{end}") for end in ("", "_low", "_high"))
    value, low, high = (float("nan") if end is None else end for end in ends)
    return judge(Estimate(value, low, high, 0), smallest, p=p, alpha=alpha)
