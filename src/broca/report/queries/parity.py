"""Clusters beside those of a published run."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, records_table
from broca.report.stored_run import StoredRun

PARITY = "queries.parity"


def parity_tables(run: StoredRun) -> list[Table]:
    """Clusters beside the published ones."""
    return [
        records_table(
            run.table(PARITY, "parity"),
            {
                "figure": "figure",
                "ours": "ours",
                "published": "published",
            },
            "Over all clusters",
            name="parity",
        ),
        records_table(
            run.table(PARITY, "clusters"),
            {
                "query": "query",
                "field": "field",
                "ours": Column("ours", "d"),
                "published": Column("published", "d"),
            },
            "Sizes of the coarse clusters, in the order of the file",
            folded=True,
            name="clusters",
        ),
    ]


def _sections(run: StoredRun, study: str) -> list[Section]:
    return [
        Section(
            "Beside a published run",
            "With the released code's settings, broca finds the clusters it found.",
            run.words(PARITY),
            tables=parity_tables(run),
            changes="A cluster of another size, or neurons that only one of the runs has: the "
            "tables name them.",
        )
    ]


REPORT = StudyReport(_sections)
