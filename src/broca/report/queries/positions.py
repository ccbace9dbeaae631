"""How much depends on where neurons are suppressed."""

from __future__ import annotations

from dataclasses import replace

from broca.report.page import Answer, Section
from broca.report.parts.study import StudyReport
from broca.report.parts.theme import WIDTH
from broca.report.parts.verdicts import interval_of
from broca.report.parts.ways import ways_answer, ways_figure, ways_table
from broca.report.stored_run import StoredRun

STUDY = "queries.positions"
NAMES = {
    "answer": "where the answer is read",
    "options": "on the option lines",
    "all": "at all positions",
}


def _answers(run: StoredRun, study: str) -> list[Answer]:
    question = "Do they also act elsewhere than where the answer is read?"
    added = "".join(
        f" All positions add {interval_of(record, 'elsewhere')} of P to what is lost where the "
        "answer is read, beyond what they add with matched random neurons."
        for record in run.table(STUDY, "elsewhere")
    )
    verdict = next((r["elsewhere_verdict"] for r in run.table(STUDY, "elsewhere")), "cannot tell")
    told = ways_answer(run, STUDY, question, NAMES, verdict, ("matched", "unrelated"))
    return [replace(told, detail=told.detail + added)]


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
        changes="Yes: all positions surely add more than smallest_share of P to what is lost where "
        "the answer is read, beyond what they add with matched random neurons. No: surely less.",
    )


REPORT = StudyReport(lambda run, study: [_section(run)], answers=_answers)
