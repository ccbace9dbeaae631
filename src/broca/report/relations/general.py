"""Objects in unrelated sentences."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import bars_with_intervals
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.parts.words import NO_FIGURE
from broca.report.stored_run import StoredRun

GENERAL = "relations.general"


def general_section(run: StoredRun) -> Section:
    """Objects in unrelated sentences."""
    columns = [
        "relation",
        Column("prompts", "d"),
        Column("objects", "d"),
        Column("perplexity before", ".3g"),
        Column("own neurons off", ".3g"),
        Column("matched random off", ".3g"),
        Column("loss per token", ".3f", "nats"),
        Column("loss per token, random", ".3f"),
        Column("loss per token in questions", ".3f"),
        Column("p (Holm)", "p"),
    ]
    keys = (
        *("relation", "n", "objects", "perplexity_before", "perplexity", "perplexity_matched"),
        *("loss", "loss_matched", "loss_asked", "p_holm"),
    )
    rows = [
        {
            "group": r["relation"],
            "condition": words,
            "value": r[key],
            "low": None,
            "high": None,
            "n": r["n"],
        }
        for r in run.table(GENERAL, "relations")
        for key, words in (("loss", "unrelated sentences"), ("loss_asked", "questions"))
    ]
    figures = []
    if rows:
        figures.append(
            bars_with_intervals(
                rows,
                title="Loss of log P per token of the object",
                caption="Own neurons off: objects in unrelated sentences, and as answers.",
                value_title="nats per token",
                percent=False,
                name="general-language",
            )
        )
    return Section(
        "General language",
        claim="Outside of questions, a relation's objects are as predictable as before.",
        text=run.words(GENERAL),
        figures=figures,
        tables=[
            Table(columns, cells(run.table(GENERAL, "relations"), keys), "Perplexity of objects")
        ],
        notes=[f"The paper measures the perplexity of objects as well. {NO_FIGURE}"],
        changes="Objects that lose less in unrelated sentences than in questions, surely and by 5 "
        "points, would say that sets serve the relation and not its objects.",
    )


REPORT = StudyReport(lambda run, study: [general_section(run)])
