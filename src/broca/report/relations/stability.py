"""Sets found on halves of the facts."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.stored_run import StoredRun

STABILITY = "relations.stability"


def stability_section(run: StoredRun) -> Section:
    """Halves of the facts."""
    columns = [
        "relation",
        Column("facts", "d"),
        Column("halves share", "percent"),
        Column("halves of different relations share", "percent"),
        Column("chance", ".2%"),
        Column("half and whole share", "percent"),
        Column("rank correlation", ".2f", "of the scores of all neurons between halves"),
        Column("loss, whole", "percent"),
        Column("loss, half", "percent"),
    ]
    keys = (
        *("relation", "facts", "shared", "shared_other", "chance", "with_whole"),
        *("rank_correlation", "drop_whole", "drop_half"),
    )
    return Section(
        "Stability of the sets",
        claim="Other facts of the same relation lead to the same neurons.",
        text=run.words(STABILITY),
        figures=[
            plain_bars(
                run.table(STABILITY, "relations"),
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
        tables=[
            Table(columns, cells(run.table(STABILITY, "relations"), keys), "Halves", name="halves")
        ],
        notes=["The paper does not report this."],
        changes="Halves that share no more than halves of different relations would say that sets "
        "are accidents of the facts. More facts per relation make halves more alike.",
    )


REPORT = StudyReport(lambda run, study: [stability_section(run)])
