"""What the pages of query studies share: actions, records of all fields, estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.estimates import Estimate
from broca.report.stored_run import StoredRun

ALL = "all"
ACTION_WORDS = {"boost": "boosted (× 2)", "suppress": "suppressed (× 0)"}
NAN = float("nan")


def action_words(run: StoredRun, action: str) -> str:
    """What an action does, with the run's own factor."""
    factor = run.setting("queries", action)
    words = {"boost": "boosted", "suppress": "suppressed"}[action]
    return ACTION_WORDS[action] if factor is None else f"{words} (× {factor:g})"


def point(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A value of a record as charts read it, with its interval where there is one."""
    return {
        "value": record[name],
        "low": record.get(f"{name}_low"),
        "high": record.get(f"{name}_high"),
        "n": record["n"],
    }


def estimate(record: Mapping[str, Any], name: str) -> Estimate | None:
    """An entry of a record with its interval; an end that is not finite is left open."""
    if record[name] is None:
        return None
    low, high = (record[f"{name}_{end}"] for end in ("low", "high"))
    if low is None and high is None:  # too few for an interval
        return Estimate(record[name], NAN, NAN, record["n"])
    ends = (NAN if low is None else low, float("inf") if high is None else high)
    return Estimate(record[name], *ends, record["n"])


def slug(study: str) -> str:
    """What names of a study's tables and pictures end in, so that none comes twice on a page."""
    return "letters" if study.endswith(".letters") else grouping(study)


def answered(run: StoredRun, study: str) -> str:
    """What the answers of a query study are: "letter" or "answer" (in words)."""
    about = run.table(study, "about")
    return "answer" if about and about[0]["answer"] == "words" else "letter"


def grouping(study: str) -> str:
    """What a query study compares: fields of knowledge, or languages."""
    return "language" if study.rpartition(".")[2] == "languages" else "field"
