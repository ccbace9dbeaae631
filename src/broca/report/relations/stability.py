"""Sets found on halves of the facts."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.stored_run import StoredRun

STABILITY = "relations.stability"


def stability_section(run: StoredRun) -> Section:
    """Halves of the facts."""
    correlation = Column("rank correlation", ".2f", "of the scores of all neurons between halves")
    columns = {
        "relation": "relation",
        "facts": Column("facts", "d"),
        **percents(shared="halves share", shared_other="halves of different relations share"),
        "chance": Column("chance", ".2%"),
        **percents(with_whole="half and whole share"),
        "rank_correlation": correlation,
        **percents(drop_whole="loss, whole", drop_half="loss, half"),
    }
    records = run.table(STABILITY, "relations")
    return Section(
        "Stability of the sets",
        claim="Other facts of the same relation lead to the same neurons.",
        text=run.words(STABILITY),
        figures=[
            plain_bars(
                records,
                "relation",
                {
                    "shared": "halves of one relation",
                    "shared_other": "halves of different relations",
                    "chance": "chance",
                },
                title="Neurons that sets found on two halves share",
                caption="Share of the set's neurons; no fact is in both halves.",
                value_title="share of neurons",
                name="halves",
            )
        ],
        tables=[records_table(records, columns, "Halves", name="halves")],
        notes=["The paper does not report this."],
        changes="Halves that share no more than halves of different relations would say that sets "
        "are accidents of the facts. More facts per relation make halves more alike.",
    )


REPORT = StudyReport(lambda run, study: [stability_section(run)])
