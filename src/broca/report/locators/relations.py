"""What a relation's neurons by each locator carry, and what others lose with them."""

from __future__ import annotations

from broca.report.locators.tables import locator_table, spread
from broca.report.page import Section
from broca.report.parts.charts import ladder_lines
from broca.report.parts.figure import Figure
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.stored_run import StoredRun


def relation_sections(run: StoredRun, study: str) -> list[Section]:
    """Curves over the size, the sizes that cost half of the answers, tables."""
    records = run.table(study, "locators")
    tables = [_halves(run, study)]
    for size in dict.fromkeys(record["k"] for record in records):
        tables.append(
            locator_table(
                [record for record in records if record["k"] == size],
                {"own": "own lost", "other": "others lost", "apart": "own minus others"},
                f"Share of P lost with {size} neurons off at every position; means over relations. "
                "Seconds: per prompt that the locator saw",
                f"locators-relations-{size}",
            )
        )
    return [
        Section(
            "The neurons of a relation",
            "A set of a relation costs its answers and spares those of other relations.",
            run.words(study),
            figures=[_curves(run, study)],
            tables=tables,
            notes=[
                "Judged on facts that no locator saw. Masks are learned to destroy the answers of "
                "the prompts seen and to spare those of other relations.",
            ],
        )
    ]


def _curves(run: StoredRun, study: str) -> Figure:
    heads = {"own": "own answers", "other": "answers of other relations"}
    rows = [
        {
            "panel": head,
            "series": record["title"],
            "k": record["k"],
            "value": record[side],
            "low": record[f"{side}_low"],
            "high": record[f"{side}_high"],
        }
        for side, head in heads.items()
        for record in run.table(study, "locators")
    ]
    return ladder_lines(
        rows,
        title="Share of P lost over the number of neurons off",
        caption="The first k neurons of each locator's ranking for a relation off at every "
        "position; means over relations, bands are 95 % intervals over them.",
        value_title="P lost",
        name="relations-lost",
    )


def _halves(run: StoredRun, study: str) -> Table:
    columns = [
        "locator",
        Column("relations", "d", "in which half of the own answers were lost at some size"),
        Column("of", "d"),
        Column("median size", ",.0f", "over all relations; empty: beyond the largest size"),
        Column("smallest", ",.0f"),
        Column("others lose", ".3f", "share of P of other relations' answers at that size"),
    ]
    rows = [
        (r["title"], r["reached"], r["n"], r["median"], r["smallest"], spread(r, "other"))
        for r in run.table(study, "halves")
    ]
    caption = "The smallest set that costs half of the own answers"
    return Table(columns, rows, caption, name="relations-half")


REPORT = StudyReport(relation_sections)
