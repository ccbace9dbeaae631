"""Recall of neurons that were planted."""

from __future__ import annotations

from broca.report.locators.tables import locator_table
from broca.report.page import Section
from broca.report.parts.study import StudyReport
from broca.report.stored_run import StoredRun


def planted_sections(run: StoredRun, study: str) -> list[Section]:
    """The table."""
    table = locator_table(
        run.table(study, "locators"),
        {"recall": "recall"},
        "Share of the planted neurons among as many first ones; means over prompts",
        "locators-planted",
    )
    return [
        Section(
            "Planted neurons",
            "A neuron whose value vector was given the answer's direction is found first.",
            run.words(study),
            tables=[table],
            changes="A planted neuron that a locator ranks below others: the planted model is "
            "small and its truth is known by construction.",
        )
    ]


REPORT = StudyReport(planted_sections)
