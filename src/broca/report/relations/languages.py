"""Found in one language, asked in another."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.figure import Figure
from broca.report.parts.heatmaps import annotated_heatmap
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.parts.words import percent
from broca.report.stored_run import StoredRun

LANGUAGES = "relations.languages"


def languages_answer(run: StoredRun) -> Answer:
    """Do they hold across languages?"""
    figures = run.summary
    home, away = figures["languages.own_drop_home"], figures["languages.own_drop_away"]
    if not home or away is None:
        return Answer("Do they hold across languages?", "Not tested")
    kept = away / home
    tone = "yes" if kept >= 0.5 else "mixed" if kept >= 0.2 else "no"
    word = {"yes": "Yes", "mixed": "Partly", "no": "Hardly"}[tone]
    return Answer(
        "Do they hold across languages?",
        f"{word}: {kept:.0%} of the effect",
        f"Neurons found in one language cost {percent(away)} of the right answers in others, "
        f"{percent(home)} at home (another relation's "
        f"{percent(figures['languages.other_drop_away'])}, matched random "
        f"{percent(figures['languages.matched_drop_away'])}).",
        tone,
    )


def languages_figure(run: StoredRun) -> Figure:
    """The matrix of own drops."""
    matrix = run.table(LANGUAGES, "matrix")
    names = list(dict.fromkeys(cell["found"] for cell in matrix))
    drop = {(c["found"], c["asked"]): c["own_drop"] for c in matrix}
    return annotated_heatmap(
        [[drop[found, asked] for asked in names] for found in names],
        names,
        names,
        title="Loss by language",
        caption="Mean acc_drop over relations, own neurons off: found in one language (row), asked "
        "in another (column).",
        row_title="found in",
        column_title="asked in",
        limit=1.0,
        text="{:.0%}".format,
        outline=[(i, i) for i in range(len(names))],
        name="languages",
    )


def languages_section(run: StoredRun) -> Section:
    """Found in one language, asked in another."""
    columns = [
        "found in",
        "asked in",
        Column("relations", "d"),
        *(
            Column(name, "percent")
            for name in ("before", "own drop", "median", "another relation's set", "matched random")
        ),
        Column("loss of log P", ".2f"),
    ]
    keys = (
        *("found", "asked", "relations", "before", "own_drop", "own_drop_median", "other_drop"),
        *("matched_drop", "log_p_drop"),
    )
    overlap = Table(
        [
            "a",
            "b",
            Column("relations", "d"),
            Column("same relation", "percent"),
            Column("other relations", "percent"),
            Column("chance", ".2%"),
        ],
        cells(
            run.table(LANGUAGES, "overlap"),
            ("a", "b", "relations", "same_relation", "other_relation", "chance"),
        ),
        "Neurons shared by sets found in two languages",
        folded=True,
        name="language-overlap",
    )
    tables = [
        Table(columns, cells(run.table(LANGUAGES, "matrix"), keys), "Cells", name="languages"),
        overlap,
    ]
    skipped = run.table(LANGUAGES, "skipped")
    if skipped:
        rows = cells(skipped, ("language", "relation", "reason"))
        tables.append(Table(("language", "relation", "why"), rows, "Left out", folded=True))
    home = run.summary["languages.own_drop_home"]
    away = run.summary["languages.own_drop_away"]
    return Section(
        "Across languages",
        claim="Neurons found in one language serve the relation in others.",
        text=run.words(LANGUAGES),
        figures=[languages_figure(run)],
        tables=tables,
        notes=[
            "The paper has the row found in English and reports that some relation neurons carry "
            f"over to other languages; here {percent(home)} of the right answers are lost at home "
            f"and {percent(away)} elsewhere."
        ],
    )


REPORT = StudyReport(
    lambda run, study: [languages_section(run)],
    answers=lambda run, study: [languages_answer(run)],
    pictures=lambda run, study: [languages_figure(run)],
)
