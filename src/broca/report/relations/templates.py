"""Evaluation facts in other wordings."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import bars_with_intervals
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.parts.words import NO_FIGURE
from broca.report.stored_run import StoredRun

TEMPLATES = "relations.templates"


def templates_section(run: StoredRun) -> Section:
    """Other wordings."""
    words = {"own_drop": "own neurons off", "matched_drop": "matched random off"}
    rows = [
        {
            "group": record["relation"],
            "condition": f"{record['wordings']}: own neurons off",
            "value": record["own_drop"],
            "low": record["own_drop_low"],
            "high": record["own_drop_high"],
            "n": record["n"],
        }
        for record in run.table(TEMPLATES, "relations")
    ]
    columns = [
        "wordings",
        Column("relations", "d"),
        Column("right before", "percent"),
        *(Column(words.get(key, key), "percent") for key in ("own_drop", "matched_drop")),
        Column("another relation's set", "percent"),
        Column("loss of log P", ".2f"),
        Column("significant", "d", "relations, after Holm"),
    ]
    keys = (
        *("wordings", "relations", "before", "own_drop", "matched_drop", "other_drop"),
        *("log_p_drop", "significant"),
    )
    return Section(
        "Other templates",
        claim="The neurons serve the relation also in wordings they were not found with.",
        text=run.words(TEMPLATES),
        figures=[
            bars_with_intervals(
                rows,
                title="Loss of right answers by wording",
                caption="acc_drop on the same evaluation facts, 95 % bootstrap intervals over "
                "facts.",
                value_title="acc_drop",
                name="templates",
            )
        ],
        tables=[
            Table(columns, cells(run.table(TEMPLATES, "wordings"), keys), "Means over relations")
        ],
        notes=[f"The paper asks in other wordings as well. {NO_FIGURE}"],
        changes="A loss in other wordings surely below that in the wordings of finding, by 5 "
        "points, would say that wordings were found.",
    )


REPORT = StudyReport(lambda run, study: [templates_section(run)])
