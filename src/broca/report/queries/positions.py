"""How much depends on where neurons are suppressed."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.study import StudyReport
from broca.report.parts.theme import WIDTH
from broca.report.parts.ways import ways_answer, ways_figure, ways_table
from broca.report.stored_run import StoredRun

STUDY = "queries.positions"
NAMES = {
    "answer": "where the answer is read",
    "options": "on the option lines",
    "all": "at all positions",
}


def _answers(run: StoredRun, study: str) -> list[Answer]:
    everywhere = run.table(STUDY, "ways")[-1]
    question = "Do they act elsewhere than where the answer is read?"
    verdict = everywhere.get("matched_verdict", "cannot tell")
    return [ways_answer(run, STUDY, question, NAMES, verdict, ("matched", "unrelated"))]


def _section(run: StoredRun) -> Section:
    return Section(
        "Where neurons are suppressed",
        "The paper scales a query's neurons at the last position; what they do elsewhere is "
        "another question.",
        run.words(STUDY),
        figures=[ways_figure(run, STUDY, NAMES, "By position", WIDTH)],
        tables=[ways_table(run, STUDY, NAMES, "position")],
        notes=[
            "A loss at all positions that answers of other fields share is damage, not knowledge: "
            "read it beside them and beside the ceiling."
        ],
        changes="Yes: suppressed at all positions, the own neurons cost P surely more than matched "
        "random ones, by smallest_share. No: surely less than that.",
    )


REPORT = StudyReport(lambda run, study: [_section(run)], answers=_answers)
