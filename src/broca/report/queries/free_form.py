"""Letters beside answers in words."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import bars_with_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, percents, records_table
from broca.report.stored_run import StoredRun

FREE = "queries.free-form"


def free_figure(run: StoredRun) -> Figure:
    """Overlap of the proxy's neurons with those of the answer in words."""
    rows = [
        {"group": total["kind"], "condition": label, "value": total[key], **ends, "n": total["n"]}
        for total in run.table(FREE, "totals")
        for label, key, ends in (
            ("own answer", "own", {"low": total["own_low"], "high": total["own_high"]}),
            ("other queries' answers", "others", {"low": None, "high": None}),
            ("chance", "chance", {"low": None, "high": None}),
        )
    ]
    return bars_with_intervals(
        rows,
        title="Letter against answer in words",
        caption="Share of the smaller set that both forms have in common, mean over queries.",
        value_title="overlap",
        name="free-form",
    )


def free_table(run: StoredRun) -> Table:
    """Overlap per query."""
    columns = {
        "kind": "sets",
        "query": "query",
        "field": "field",
        "proxy": Column("letter", "d"),
        "free": Column("in words", "d"),
        **percents(own="overlap", others="with others", chance="chance"),
    }

    return records_table(
        run.table(FREE, "overlaps"),
        columns,
        "Letter and answer in words, query by query",
        folded=True,
        name="free-form",
    )


def _free_section(run: StoredRun) -> Section:
    shown = bool(run.table(FREE, "totals"))
    return Section(
        "Proxy against free form",
        "The letter of a multiple-choice question points to the neurons of the answer itself.",
        run.words(FREE),
        figures=[free_figure(run)] if shown else [],
        tables=[free_table(run)] if shown else [],
        notes=[
            "Free form: the question without options; the sum over the answer's tokens of each "
            "token's attribution in log P.",
        ],
        changes="Letters and answers in words that share no more neurons than those of different "
        "questions would say that the letter stands for itself. More questions "
        "(n_free_form) sharpen it.",
    )


REPORT = StudyReport(lambda run, study: [_free_section(run)])
