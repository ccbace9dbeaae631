"""Found in one language, asked in another."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.figure import Figure
from broca.report.parts.heatmaps import annotated_heatmap
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells, percents, records_table
from broca.report.parts.verdicts import answer, judge_record, points_of
from broca.report.parts.words import percent
from broca.report.stored_run import StoredRun

LANGUAGES = "relations.languages"


def languages_answer(run: StoredRun) -> Answer:
    """Do they hold across languages?"""
    question, figures = "Do they hold across languages?", run.summary
    away = figures["languages.own_drop_away"]
    if not figures["languages.own_drop_home"] or away is None:
        return answer(question, "cannot tell", "Nothing was lost in the language of finding.")
    beyond, low, high = (
        figures.get(f"languages.beyond_away{end}") for end in ("", "_low", "_high")
    )
    told = "an unknown loss" if beyond is None else points_of(beyond, low, high)
    sentence = (
        f"Neurons found in one language cost {percent(away)} of the right answers in others, "
        f"{percent(figures['languages.own_drop_home'])} at home (another relation's "
        f"{percent(figures['languages.other_drop_away'])}, matched random "
        f"{percent(figures['languages.matched_drop_away'])}); beyond matched random "
        f"{told} of accuracy."
    )
    return answer(question, judge_record(figures, "languages.beyond_away"), sentence)


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
    columns = {
        "found": "found in",
        "asked": "asked in",
        "relations": Column("relations", "d"),
        **percents(
            before="before",
            own_drop="own drop",
            own_drop_median="median",
            other_drop="another relation's set",
            matched_drop="matched random",
        ),
        "log_p_drop": Column("loss of log P", ".2f"),
    }

    overlap = records_table(
        run.table(LANGUAGES, "overlap"),
        {
            "a": "a",
            "b": "b",
            "relations": Column("relations", "d"),
            **percents(same_relation="same relation", other_relation="other relations"),
            "chance": Column("chance", ".2%"),
        },
        "Neurons shared by sets found in two languages",
        folded=True,
        name="language-overlap",
    )
    tables = [
        records_table(run.table(LANGUAGES, "matrix"), columns, "Cells", name="languages"),
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
        changes="Yes: asked in other languages, the sets cost surely 5 points of accuracy more "
        "than matched random ones, over relations. No: surely less. Relations known in more "
        "languages narrow the interval.",
    )


REPORT = StudyReport(
    lambda run, study: [languages_section(run)],
    answers=lambda run, study: [languages_answer(run)],
    pictures=lambda run, study: [languages_figure(run)],
)
