"""What a locator's first neurons do together."""

from __future__ import annotations

from broca.report.locators.tables import DRAWN, locator_table
from broca.report.page import Section
from broca.report.parts.charts import ladder_lines
from broca.report.parts.study import StudyReport
from broca.report.stored_run import StoredRun


def joint_sections(run: StoredRun, study: str) -> list[Section]:
    """Curves over the number of neurons, and their areas."""
    rows = [
        {**record, "series": record["title"], "panel": f"{record['prompt']} prompt"}
        for record in run.table(study, "curves")
        if record["locator"] in DRAWN
    ]
    figure = ladder_lines(
        rows,
        title="P of the answer left over the number of neurons off",
        caption="The first k neurons of each locator's ranking replaced by 0 together at the last "
        "position: on the own prompt, and on a prompt of another relation. Bands are 95 % "
        "intervals.",
        value_title="P after / P before",
        k_title="neurons replaced together",
        name="joint-effect",
    )
    table = locator_table(
        run.table(study, "locators"),
        {
            "area_own": "own area",
            "area_other": "other area",
            "selectivity": "other minus own",
        },
        "Area: mean of P after / P before over log k. Own: low is good. Other: 1 is harmless",
        "locators-joint",
    )
    return [
        Section(
            "Switched off together",
            "The first neurons of a ranking, off together, cost this answer and spare others.",
            run.words(study),
            figures=[figure],
            tables=[table],
            changes="More prompts, or sizes further apart: the area is a mean over log k.",
        )
    ]


REPORT = StudyReport(joint_sections)
