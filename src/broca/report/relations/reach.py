"""Sections on how far the neurons reach: languages, wordings, general language, resilient facts."""

from __future__ import annotations

from broca.report.charts import bars_with_intervals
from broca.report.figure import Figure
from broca.report.heatmaps import annotated_heatmap
from broca.report.page import Answer, Section
from broca.report.relations.tables import cells
from broca.report.relations.words import percent
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table

LANGUAGES = "relations.languages"
TEMPLATES = "relations.templates"
GENERAL = "relations.general"
RESILIENCE = "relations.resilience"
NO_FIGURE = "None of its figures for Llama-2-7B is known here, so nothing is compared."


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


def templates_section(run: StoredRun) -> Section:
    """Other wordings."""
    words = {"own_drop": "own neurons off", "matched_drop": "matched random off"}
    rows = [
        {
            "group": record["relation"],
            "condition": f"{record['wordings']}: own neurons off",
            "value": record["own_drop"],
            "low": record["own_drop_low"],
            "high": record["own_drop_high"],
            "n": record["n"],
        }
        for record in run.table(TEMPLATES, "relations")
    ]
    columns = [
        "wordings",
        Column("relations", "d"),
        Column("right before", "percent"),
        *(Column(words.get(key, key), "percent") for key in ("own_drop", "matched_drop")),
        Column("another relation's set", "percent"),
        Column("loss of log P", ".2f"),
        Column("significant", "d", "relations, after Holm"),
    ]
    keys = (
        *("wordings", "relations", "before", "own_drop", "matched_drop", "other_drop"),
        *("log_p_drop", "significant"),
    )
    return Section(
        "Other templates",
        claim="The neurons serve the relation also in wordings they were not found with.",
        text=run.words(TEMPLATES),
        figures=[
            bars_with_intervals(
                rows,
                title="Loss of right answers by wording",
                caption="acc_drop on the same evaluation facts, 95 % bootstrap intervals over "
                "facts.",
                value_title="acc_drop",
                name="templates",
            )
        ],
        tables=[
            Table(columns, cells(run.table(TEMPLATES, "wordings"), keys), "Means over relations")
        ],
        notes=[f"The paper asks in other wordings as well. {NO_FIGURE}"],
    )


def general_section(run: StoredRun) -> Section:
    """Objects in unrelated sentences."""
    columns = [
        "relation",
        Column("prompts", "d"),
        Column("objects", "d"),
        Column("perplexity before", ".3g"),
        Column("own neurons off", ".3g"),
        Column("matched random off", ".3g"),
        Column("loss per token", ".3f", "nats"),
        Column("loss per token, random", ".3f"),
        Column("loss per token in questions", ".3f"),
        Column("p (Holm)", "p"),
    ]
    keys = (
        *("relation", "n", "objects", "perplexity_before", "perplexity", "perplexity_matched"),
        *("loss", "loss_matched", "loss_asked", "p_holm"),
    )
    rows = [
        {
            "group": r["relation"],
            "condition": words,
            "value": r[key],
            "low": None,
            "high": None,
            "n": r["n"],
        }
        for r in run.table(GENERAL, "relations")
        for key, words in (("loss", "unrelated sentences"), ("loss_asked", "questions"))
    ]
    figures = []
    if rows:
        figures.append(
            bars_with_intervals(
                rows,
                title="Loss of log P per token of the object",
                caption="Own neurons off: objects in unrelated sentences, and as answers.",
                value_title="nats per token",
                percent=False,
                name="general-language",
            )
        )
    return Section(
        "General language",
        claim="Outside of questions, a relation's objects are as predictable as before.",
        text=run.words(GENERAL),
        figures=figures,
        tables=[
            Table(columns, cells(run.table(GENERAL, "relations"), keys), "Perplexity of objects")
        ],
        notes=[f"The paper measures the perplexity of objects as well. {NO_FIGURE}"],
    )


def resilience_section(run: StoredRun) -> Section:
    """Frequency of facts kept and lost."""
    columns = [
        "relation",
        Column("kept", "d", "right before and after"),
        Column("lost", "d", "right before only"),
        Column("frequency of kept", ".1f"),
        Column("frequency of lost", ".1f"),
        Column("difference", "percent", "(lost − kept) / kept"),
    ]
    keys = (
        *("relation", "resilient", "sensitive", "frequency_resilient", "frequency_sensitive"),
        "difference",
    )
    quarters = Table(
        [Column("quarter", "d", "1 the rarest"), Column("facts", "d"), Column("kept", "percent")],
        cells(run.table(RESILIENCE, "bands"), ("quarter", "facts", "resilient")),
        "Facts by quarter of frequency within their relation",
        name="quarters",
    )
    p = run.summary["resilience.p_relations"]
    here = "could not be tested" if p is None else "p < .001" if p < 0.001 else f"p = {p:.3f}"
    return Section(
        "Resilience: facts seen often",
        claim="Facts that survive are those seen more often in training.",
        text=run.words(RESILIENCE),
        figures=_quarters_figures(run),
        tables=[
            Table(columns, cells(run.table(RESILIENCE, "relations"), keys), "Relations"),
            quarters,
        ],
        notes=[
            "Wilcoxon over relations: p = .11 for the paper's Llama-2-7B, .03 for 13B; here "
            f"{here}."
        ],
    )


def _quarters_figures(run: StoredRun) -> list[Figure]:
    """Facts kept, by how often they were seen."""
    ends = {1: " (rarest)", 4: " (most frequent)"}
    rows = [
        {
            "group": f"quarter {r['quarter']}{ends.get(r['quarter'], '')}",
            "condition": "kept with own neurons off",
            "value": r["resilient"],
            "low": None,
            "high": None,
            "n": r["facts"],
        }
        for r in run.table(RESILIENCE, "bands")
    ]
    if not rows:
        return []
    return [
        bars_with_intervals(
            rows,
            title="Facts kept, by frequency",
            caption="Share of the facts right before that stay right with the own neurons off, by "
            "quarter of frequency within their relation.",
            value_title="share kept",
            name="kept-by-frequency",
        )
    ]
