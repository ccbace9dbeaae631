"""What survives zero, mean and resample in the place of query neurons."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.study import StudyReport
from broca.report.parts.theme import WIDTH
from broca.report.parts.verdicts import together
from broca.report.parts.ways import ways_answer, ways_figure, ways_table
from broca.report.stored_run import StoredRun

STUDY = "queries.replacement"
WITH = {"zero": "with zero", "mean": "with the mean", "resample": "with a resample"}
NAMES = {"zero": "zero", "mean": "mean", "resample": "resample"}


def _answers(run: StoredRun, study: str) -> list[Answer]:
    records = run.table(STUDY, "ways")
    control = "active" if any("active" in r for r in records) else "matched"
    verdict = together([r.get(f"{control}_verdict", "cannot tell") for r in records])
    question = "Do query neurons matter, whatever is put in their place?"
    return [ways_answer(run, STUDY, question, WITH, verdict, (control,))]


def _section(run: StoredRun) -> Section:
    return Section(
        "What is put in the place of query neurons",
        "A query's neurons matter to its answer, whatever takes their place.",
        run.words(STUDY),
        figures=[ways_figure(run, STUDY, NAMES, "By replacement", WIDTH)],
        tables=[ways_table(run, STUDY, NAMES, "replacement")],
        notes=[
            "Mean: over all queries' prompts. Resample: what the neurons say to one prompt of "
            "another field. The paper multiplies by zero."
        ],
        changes="Yes: under each replacement the own neurons cost P surely more than random ones "
        "as active, by smallest_share. More queries narrow the intervals.",
    )


REPORT = StudyReport(lambda run, study: [_section(run)], answers=_answers)
