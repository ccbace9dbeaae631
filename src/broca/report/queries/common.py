"""What the neurons say that serve every field."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.fields import beside_paper
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.stored_run import StoredRun

COMMON = "queries.common"


def common_section(run: StoredRun) -> Section:
    """Every common neuron with its tokens."""
    shown = bool(run.table(COMMON, "common"))
    columns = [
        "neuron",
        Column("clusters", "percent", "share of the coarse clusters that it is in"),
        Column("letter first", "", "an option's letter is its first token, at either end"),
        Column("raises", "", "tokens whose logits it raises most when it is positive"),
        Column("lowers", "", "tokens whose logits it lowers most"),
    ]
    keys = ("neuron", "share", "letter", "top", "bottom")
    rows = [tuple(record[key] for key in keys) for record in run.table(COMMON, "common")]
    return Section(
        "What common neurons say",
        "Neurons that serve questions of every field sit in the top layer and write the form of "
        "an answer, not its content.",
        run.words(COMMON),
        tables=[
            Table(columns, rows, f"Common neurons (n = {len(rows)})", name="common-tokens"),
            beside_paper(run, COMMON),
        ]
        if shown
        else [],
        notes=["A gated neuron can be negative: then it speaks for the tokens that it lowers."],
        changes="As many letters, or answers, among random neurons of the same layers would take "
        "the claim back; so would an even spread over the layers.",
    )


REPORT = StudyReport(lambda run, study: [common_section(run)])
