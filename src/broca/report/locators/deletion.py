"""What is lost with a locator's neurons of every layer deleted."""

from __future__ import annotations

from broca.report.locators.tables import locator_table
from broca.report.page import Section
from broca.report.parts.study import StudyReport
from broca.report.stored_run import StoredRun


def deletion_sections(run: StoredRun, study: str) -> list[Section]:
    """A table per share."""
    records = run.table(study, "locators")
    tables = []
    for share in dict.fromkeys(record["share"] for record in records):
        tables.append(
            locator_table(
                [record for record in records if record["share"] == share],
                {"own": "own answer", "other": "other answers", "text": "text, nats per token"},
                f"Lost with the first {share:.1%} of each layer off at every position: share of P. "
                "Published: .5 %, Pythia-6.9B",
                f"locators-deletion-{share:g}",
                beside={"published_own": "published own", "published_other": "published other"},
            )
        )
    return [
        Section(
            "Deleted from every layer",
            "The neurons found carry this answer and little else.",
            run.words(study),
            tables=tables,
            changes="More prompts: intervals are over prompts, and locators are compared over the "
            "same ones.",
        )
    ]


REPORT = StudyReport(deletion_sections)
