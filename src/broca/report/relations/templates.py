"""Evaluation facts in other wordings."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import bars_with_intervals
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.parts.words import NO_FIGURE
from broca.report.stored_run import StoredRun

TEMPLATES = "relations.templates"


def templates_section(run: StoredRun) -> Section:
    """Other wordings."""
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
    columns = {
        "wordings": "wordings",
        "relations": Column("relations", "d"),
        **percents(
            before="right before",
            own_drop="own neurons off",
            matched_drop="matched random off",
            other_drop="another relation's set",
        ),
        "log_p_drop": Column("loss of log P", ".2f"),
        "significant": Column("significant", "d", "relations, after Holm"),
    }
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
        tables=[records_table(run.table(TEMPLATES, "wordings"), columns, "Means over relations")],
        notes=[f"The paper asks in other wordings as well. {NO_FIGURE}"],
        changes="A loss in other wordings surely below that in the wordings of finding, by 5 "
        "points, would say that wordings were found.",
    )


REPORT = StudyReport(lambda run, study: [templates_section(run)])
