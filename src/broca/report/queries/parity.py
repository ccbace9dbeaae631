"""Clusters beside those of a published run."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.stored_run import StoredRun

PARITY = "queries.parity"


def parity_tables(run: StoredRun) -> list[Table]:
    """Clusters beside the published ones."""
    return [
        Table(
            ["figure", "ours", "published"],
            cells(run.table(PARITY, "parity"), ("figure", "ours", "published")),
            "Over all clusters",
            name="parity",
        ),
        Table(
            ["query", "field", Column("ours", "d"), Column("published", "d")],
            cells(run.table(PARITY, "clusters"), ("query", "field", "ours", "published")),
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
