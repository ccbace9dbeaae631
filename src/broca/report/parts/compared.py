"""Several runs on one page: one answer per question, charts that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.page import Answer, Tone
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.theme import NARROW
from broca.report.stored_run import StoredRun

CHARTS = {
    "Relation neurons off: loss of accuracy": {
        "effect.own_loss": "own relation",
        "effect.other_loss": "other relations",
        "effect.beyond_matched": "own, beyond matched random",
    },
    "Query neurons suppressed: change of P": {
        "queries.na-ica.suppress.related": "own answer",
        "queries.na-ica.suppress.same": "same field",
        "queries.na-ica.suppress.unrelated": "other fields",
        "queries.na-ica.suppress.matched": "own answer, random neurons",
    },
}
"""Chart -> figures of the summary that every run may have, and what they are called."""


def shared_answers(by_run: Mapping[str, Sequence[Answer]]) -> list[Answer]:
    """One answer per question: each run's verdict, and below it what each stands on."""
    asked = dict.fromkeys(one.question for listed in by_run.values() for one in listed)
    found = []
    for question in asked:
        here = {
            name: one
            for name, listed in by_run.items()
            for one in listed
            if one.question == question
        }
        words = " · ".join(f"{name}: {one.answer}" for name, one in here.items())
        detail = " ".join(f"{name}: {one.detail}" for name, one in here.items() if one.detail)
        tones: set[Tone] = {one.tone for one in here.values()}
        tone: Tone = tones.pop() if len(tones) == 1 else "mixed"
        found.append(Answer(question, words, detail, tone))
    return found


def shared_figures(runs: Mapping[str, StoredRun]) -> list[Figure]:
    """Effects of all runs in one chart per family, for those that two runs have."""
    figures = []
    for title, figures_of in CHARTS.items():
        rows = [
            {"group": words, "condition": name, **_point(run.summary, key)}
            for key, words in figures_of.items()
            for name, run in runs.items()
            if run.summary.get(key) is not None
        ]
        if len({row["condition"] for row in rows}) > 1:
            figures.append(
                dot_intervals(
                    rows,
                    title=title,
                    caption="Means with 95 % intervals, a colour per run.",
                    value_title="share",
                    percent=True,
                    width=NARROW,
                    name=f"runs-{len(figures) + 1}",
                )
            )
    return figures


def _point(summary: Mapping[str, Any], key: str) -> dict[str, Any]:
    ends = {
        end: summary.get(f"{key}.{end}", summary.get(f"{key}_{end}")) for end in ("low", "high")
    }
    return {"value": summary[key], **ends}
