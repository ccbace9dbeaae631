"""Objects in unrelated sentences."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, records_table
from broca.report.parts.words import NO_FIGURE
from broca.report.stored_run import StoredRun

GENERAL = "relations.general"


def general_section(run: StoredRun) -> Section:
    """Objects in unrelated sentences."""
    columns = {
        "relation": "relation",
        "n": Column("prompts", "d"),
        "objects": Column("objects", "d"),
        "perplexity_before": Column("perplexity before", ".3g"),
        "perplexity": Column("own neurons off", ".3g"),
        "perplexity_matched": Column("matched random off", ".3g"),
        "loss": Column("loss per token", ".3f", "nats"),
        "loss_matched": Column("loss per token, random", ".3f"),
        "loss_asked": Column("loss per token in questions", ".3f"),
        "p_holm": Column("p (Holm)", "p"),
    }
    records = run.table(GENERAL, "relations")
    figure = plain_bars(
        records,
        "relation",
        {"loss": "unrelated sentences", "loss_asked": "questions"},
        title="Loss of log P per token of the object",
        caption="Own neurons off: objects in unrelated sentences, and as answers.",
        value_title="nats per token",
        percent=False,
        name="general-language",
    )
    return Section(
        "General language",
        claim="Outside of questions, a relation's objects are as predictable as before.",
        text=run.words(GENERAL),
        figures=[figure] if records else [],
        tables=[records_table(records, columns, "Perplexity of objects")],
        notes=[f"The paper measures the perplexity of objects as well. {NO_FIGURE}"],
        changes="Objects that lose less in unrelated sentences than in questions, surely and by 5 "
        "points, would say that sets serve the relation and not its objects.",
    )


REPORT = StudyReport(lambda run, study: [general_section(run)])
