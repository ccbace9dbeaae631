"""The relation studies on the page: first screen, then a section per study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.charts import (
    bars_with_intervals,
    dot_intervals,
    ladder_lines,
    neurons_per_layer_and_site,
)
from broca.report.figure import Figure
from broca.report.heatmaps import annotated_heatmap, overlap_heatmap
from broca.report.page import Answer, Section
from broca.report.runs import Part, StoredRun
from broca.report.tables import Column, Table

INTRA, INTER, CONTROLS = "relations.intra", "relations.inter", "relations.controls"
NARROW = 330  # pixels, of a picture on the first screen

OFF_WORDS = {
    "nothing": "untouched",
    "own": "own neurons off",
    "matched": "matched random off",
    "uniform": "uniform random off",
}

PAPER_LOST = {
    "company_ceo": 23,
    "company_hq": 26,
    "landmark_continent": 17,
    "landmark_country": 13,
    "person_father": 19,
    "person_mother": 10,
    "person_occupation": 15,
    "person_plays_instrument": 31,
    "person_pro_sport": 20,
    "person_sport_position": 43,
    "product_company": 17,
    "star_constellation": 35,
}
"""Evaluation prompts (of 50) that Llama-2-7B loses with its 3,000 own neurons off (the paper)."""

PAPER_FATHER_MOTHER = 2053 / 3000
"""Share of their neurons that father and mother have in common in Llama-2-7B (the paper)."""


def report_part(run: StoredRun) -> Part:
    """All that the relation studies show of a run."""
    part = Part()
    figures = run.summary
    if INTRA in run.findings:
        part.answers.append(_effect_answer(figures))
        part.figures.append(_accuracy_figure(run, "evaluation", narrow=True))
        part.sections.append(_intra_section(run))
        part.notices += _notices(run)
    if INTER in run.findings:
        part.answers += _other_answers(run)
        part.figures.append(_matrix_figure(run))
        part.sections += [_inter_section(run), _sets_section(run)]
    if CONTROLS in run.findings:
        part.answers.append(_control_answer(figures))
        part.sections.append(_controls_section(run))
    return part


# ---- first screen


def _effect_answer(figures: Mapping[str, Any]) -> Answer:
    tested, significant = (
        figures["effect.relations_tested"],
        figures["effect.relations_significant"],
    )
    if not tested:
        return Answer(
            "Are there relation neurons?",
            "This run cannot tell",
            "The model answers no evaluation prompt rightly, so there is no accuracy to lose.",
        )
    tone = "yes" if significant >= 0.75 * tested else "mixed" if significant else "no"
    return Answer(
        "Are there relation neurons?",
        f"In {significant} of {tested} relations",
        f"There, {figures['effect.k']:,} neurons ({figures['effect.k_share']:.2%}) off cost more "
        f"than matched random ones. Median loss: {_percent(figures['effect.own_drop_median'])} of "
        f"the right answers, matched random {_percent(figures['effect.matched_drop_median'])}.",
        tone,
    )


def _other_answers(run: StoredRun) -> list[Answer]:
    figures = run.summary
    own, other = figures["effect.own_drop_median"], figures["effect.other_drop_median"]
    if own is None or other is None:
        return []
    ratio = figures["effect.own_over_other"]
    pairs, negative = figures["effect.cells"], figures["effect.negative_cells"]
    return [
        Answer(
            "Do they serve their relation alone?",
            "Mostly" if ratio >= 3 else "Partly" if own > other else "No",
            f"The other relations lose {_percent(other)} in the median, the own {_percent(own)}.",
            "yes" if ratio >= 3 else "mixed" if own > other else "no",
        ),
        Answer(
            "Do relations stand in each other's way?",
            f"In {negative} of {pairs} pairs",
            "There, a relation gains when the other's neurons are off.",
        ),
    ]


def _control_answer(figures: Mapping[str, Any]) -> Answer:
    beyond = figures.get("controls.shuffled_beyond_matched")
    if beyond is None:
        return Answer("Does the method make up what it finds?", "Not tested")
    fine = abs(beyond) <= 0.05
    return Answer(
        "Does the method make up what it finds?",
        "No" if fine else "It may",
        f"Sets found for shuffled labels cost {_points(beyond)} beyond matched random sets.",
        "yes" if fine else "no",
    )


def _notices(run: StoredRun) -> list[str]:
    notices = []
    skipped = run.table(INTRA, "skipped")
    if skipped:
        names = ", ".join(record["relation"] for record in skipped)
        notices.append(f"{len(skipped)} relations were left out, see below: {names}.")
    if run.folder.config.get("detection_filter") == "none":
        notices.append("Neurons were found on prompts that the model may answer wrongly.")
    return notices


# ---- sections


def _intra_section(run: StoredRun) -> Section:
    drops = run.table(INTRA, "drops")
    tables = [_drops_table(drops), _accuracy_table(run)]
    if run.table(INTRA, "skipped"):
        rows = [(r["relation"], r["reason"]) for r in run.table(INTRA, "skipped")]
        tables.append(Table(("relation", "why it was left out"), rows, "Relations left out"))
    figures = [
        _accuracy_figure(run, "evaluation"),
        _accuracy_figure(run, "detection"),
        _log_p_figure(run),
    ]
    if run.table(INTRA, "k"):
        figures.append(_k_figure(run))
        tables.append(_k_table(run))
    return Section(
        "Intra-relation: own neurons off",
        claim="Switching off a relation's neurons lowers its accuracy, also on facts they were "
        "not found on; random neurons do not.",
        text=run.words(INTRA),
        figures=figures,
        tables=tables,
        notes=_paper_notes(drops),
    )


def _inter_section(run: StoredRun) -> Section:
    return Section(
        "Inter-relation: every set off for every relation",
        claim="A relation's neurons matter for it more than for other relations; some relations "
        "hurt or help each other.",
        text=run.words(INTER),
        figures=[_matrix_figure(run), _log_p_matrix_figure(run), _said_figure(run)],
        tables=[_sets_table(run), _answers_table(run)],
        notes=_interference_notes(run),
    )


def _sets_section(run: StoredRun) -> Section:
    places = run.table(INTER, "places")
    n_layers = run.environment["n_layers"]
    rows = [
        {"panel": r["set"], "layer": r["layer"], "site": r["site"], "count": r["n"]} for r in places
    ]
    names = _names(run)
    pairs = {(r["a"], r["b"]): r for r in run.table(INTER, "overlap")}
    counts = [[pairs[a, b]["count"] for b in names] for a in names]
    expected = [[pairs[a, b]["expected"] for b in names] for a in names]
    figures = [
        neurons_per_layer_and_site(
            rows,
            title="Where the neurons are",
            caption="Neurons of each set by layer and site.",
            n_layers=n_layers,
        ),
        overlap_heatmap(
            counts,
            names,
            title="Neurons shared by sets",
            caption="Number of shared neurons; colour: share of the smaller set. By chance two "
            f"sets share {expected[0][0]:.1f} neurons."
            if names
            else "",
            sizes=[pairs[a, a]["count"] for a in names],
            expected=expected,
        ),
    ]
    return Section(
        "The sets: where they are, what they share",
        figures=figures,
        text=_place_words(places, n_layers),
        notes=_overlap_notes(pairs),
    )


def _controls_section(run: StoredRun) -> Section:
    shuffled = run.table(CONTROLS, "shuffled")
    templates = run.table(CONTROLS, "templates")
    tables = []
    if shuffled:
        columns = [
            "relation",
            Column("shuffle", "d"),
            Column("untouched", "percent"),
            Column("set for shuffled labels off", "percent"),
            Column("matched random off", "percent"),
        ]
        keys = ("relation", "seed", "before", "shuffled", "matched")
        tables.append(Table(columns, _cells(shuffled, keys), "Shuffled labels", folded=True))
    if templates:
        columns = [
            "relation",
            Column("AP, wordings found with", ".2f"),
            Column("AP, other wordings", ".2f"),
            Column("chance", ".2f"),
            Column("still in the top k", "percent"),
        ]
        keys = ("relation", "ap_found", "ap_other", "chance", "kept")
        tables.append(Table(columns, _cells(templates, keys), "Template control"))
    return Section(
        "Controls of the finder",
        claim="Expertise belongs to the relation, not to the wording, and the pipeline "
        "manufactures nothing.",
        text=run.words(CONTROLS),
        tables=tables,
    )


# ---- figures


def _names(run: StoredRun) -> list[str]:
    return list(dict.fromkeys(record["set"] for record in run.table(INTER, "sets")))


def _accuracy_figure(run: StoredRun, part: str, narrow: bool = False) -> Figure:
    shown = ("nothing", "own", "matched") if narrow else tuple(OFF_WORDS)
    rows = [
        {
            "group": bar["relation"],
            "condition": OFF_WORDS[bar["off"]],
            "value": bar["accuracy"],
            "low": bar["accuracy_low"],
            "high": bar["accuracy_high"],
            "n": bar["n"],
        }
        for bar in run.table(INTRA, "accuracy")
        if bar["part"] == part and bar["off"] in shown
    ]
    facts = "facts never used to find them" if part == "evaluation" else "facts they were found on"
    return bars_with_intervals(
        rows,
        title=f"Accuracy on {facts}",
        caption="Share of right answers by what is switched off; 95 % bootstrap intervals over "
        "facts.",
        value_title="accuracy",
        name=f"accuracy-{part}{'-small' if narrow else ''}",
        **({"width": NARROW} if narrow else {}),
    )


def _log_p_figure(run: StoredRun) -> Figure:
    rows = [
        {
            "group": bar["relation"],
            "condition": OFF_WORDS[bar["off"]],
            "value": bar["log_p"],
            "low": bar["log_p_low"],
            "high": bar["log_p_high"],
            "n": bar["n"],
        }
        for bar in run.table(INTRA, "accuracy")
        if bar["part"] == "evaluation"
    ]
    return dot_intervals(
        rows,
        title="Log P of the right answer, evaluation facts",
        caption="Mean natural logarithm; it moves where accuracy is saturated.",
        value_title="log P",
        reference=None,
        name="log-p-evaluation",
    )


def _matrix(run: StoredRun, key: str) -> list[list[float | None]]:
    cells = {(c["asked"], c["off"]): c[key] for c in run.table(INTER, "matrix")}
    names = _names(run)
    return [[cells[asked, off] for off in names] for asked in names]


def _matrix_figure(run: StoredRun) -> Figure:
    names = _names(run)
    return annotated_heatmap(
        _matrix(run, "drop"),
        names,
        names,
        title="Loss of accuracy by relation and set",
        caption="acc_drop = (before − after) / before on evaluation facts. Red: loss; blue: the "
        "relation gains (interference). Framed: own neurons off.",
        row_title="asked",
        column_title="neurons off",
        limit=1.0,
        outline=[(i, i) for i in range(len(names))],
        name="matrix-accuracy",
    )


def _log_p_matrix_figure(run: StoredRun) -> Figure:
    names = _names(run)
    return annotated_heatmap(
        _matrix(run, "log_p_drop"),
        names,
        names,
        title="Loss of log P by relation and set",
        caption="Mean log P before − after, evaluation facts. Red: the right answer gets less "
        "likely; blue: likelier.",
        row_title="asked",
        column_title="neurons off",
        outline=[(i, i) for i in range(len(names))],
        name="matrix-log-p",
    )


def _said_figure(run: StoredRun) -> Figure:
    said = [r for r in run.table(INTER, "said") if r["of"]]
    kinds = list(dict.fromkeys(r["said"] for r in said))
    names = list(dict.fromkeys(r["relation"] for r in said))
    share = {(r["relation"], r["said"]): r["n"] / r["of"] for r in said}
    lost = {r["relation"]: r["of"] for r in said}
    return annotated_heatmap(
        [[share[name, kind] for kind in kinds] for name in names],
        [f"{name} ({lost[name]} lost)" for name in names],
        kinds,
        title="What is said instead",
        caption="With the own neurons off, of the answers that were right before.",
        centre=None,
        limit=1.0,
        text="{:.0%}".format,
        name="said-instead",
    )


def _k_figure(run: StoredRun) -> Figure:
    names = {"own": "own relation", "other": "other relations", "matched": "matched random"}
    table = run.table(INTRA, "k")
    rows = [
        {"series": names[key], "k": record["k"], "value": record[key], "low": None, "high": None}
        for key in names
        for record in table
    ]
    chosen = next(r["k"] for r in table if r["chosen"])
    by_accuracy = table[0]["by"] == "accuracy"
    return ladder_lines(
        rows,
        title="How many neurons",
        caption=f"Mean loss with the top k of one half of the detection facts off, measured on "
        f"the other half. k = {chosen:,} was chosen for all relations.",
        value_title="acc_drop" if by_accuracy else "loss of log P",
        percent=by_accuracy,
        name="choice-of-k",
    )


# ---- tables


def _cells(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    return [tuple(record[key] for key in keys) for record in records]


def _drops_table(drops: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        "relation",
        Column("n", "d", "evaluation facts"),
        Column("before", "percent", "accuracy untouched"),
        Column("after", "percent", "accuracy with the own neurons off"),
        Column("own drop", "percent", "acc_drop"),
        Column("low", "percent", "95 % bootstrap interval over facts"),
        Column("high", "percent"),
        Column("matched", "percent", "acc_drop with matched random sets off, their mean"),
        Column("uniform", "percent", "acc_drop with uniformly random sets off, their mean"),
        Column("p (Holm)", "p", "sign flips over facts: own against matched sets"),
        Column("loss of log P", ".2f"),
        Column("p (Holm), log P", "p"),
        Column("lost here", "d", "prompts turned from right to wrong"),
        Column("lost, Llama-2-7B", "d", "of 50, as the paper reports it"),
    ]
    keys = (
        *("relation", "n", "before", "after", "own_drop", "own_drop_low", "own_drop_high"),
        *("matched_drop", "uniform_drop", "p_holm", "log_p_drop", "p_log_p_holm"),
    )
    rows = [
        (*row, record["lost"], PAPER_LOST.get(record["relation"]))
        for row, record in zip(_cells(drops, keys), drops, strict=True)
    ]
    return Table(columns, rows, "Own drops on evaluation facts", name="drops")


def _accuracy_table(run: StoredRun) -> Table:
    columns = [
        "relation",
        "part",
        "off",
        Column("facts", "d"),
        Column("accuracy", "percent"),
        Column("low", "percent"),
        Column("high", "percent"),
        Column("one-token objects", "percent"),
        Column("longer objects", "percent"),
        Column("log P", ".2f"),
    ]
    keys = (
        *("relation", "part", "off", "n", "accuracy", "accuracy_low", "accuracy_high"),
        *("accuracy_one_token", "accuracy_longer", "log_p"),
    )
    rows = _cells(run.table(INTRA, "accuracy"), keys)
    return Table(columns, rows, "Accuracy and log P", folded=True, name="accuracy")


def _k_table(run: StoredRun) -> Table:
    table = run.table(INTRA, "k")
    form = "percent" if table[0]["by"] == "accuracy" else ".2f"
    columns = [
        Column("k", "d"),
        Column("share", ".2%"),
        *(Column(name, form) for name in ("own", "other", "matched", "gain")),
        "chosen",
    ]
    keys = ("k", "share", "own", "other", "matched", "gain", "chosen")
    caption = "How k was chosen, on detection prompts only"
    return Table(columns, _cells(table, keys), caption, folded=True, name="choice-of-k")


def _sets_table(run: StoredRun) -> Table:
    columns = [
        "set",
        Column("neurons", "d"),
        Column("units", "d", "gate i, up i and hidden i of a layer are one unit"),
        Column("own drop", "percent"),
        Column("other drop", "percent", "mean over the other relations"),
        Column("worst other", "percent"),
        Column("best other", "percent", "negative: a relation gains"),
        Column("highest AP", ".3f"),
        Column("lowest AP", ".3f"),
    ]
    keys = (
        *("set", "neurons", "units", "own_drop", "other_drop", "other_drop_worst"),
        *("other_drop_best", "highest_ap", "lowest_ap"),
    )
    return Table(columns, _cells(run.table(INTER, "sets"), keys), "The sets", name="sets")


def _answers_table(run: StoredRun) -> Table:
    rows = []
    for record in run.table(INTER, "answers"):
        prompt = run.prompts.get(record["prompt"], {})
        rows.append(
            (
                record["relation"],
                prompt.get("text", record["prompt"]),
                ", ".join(prompt.get("answers", ())),
                record["before"].strip(),
                record["after"].strip(),
                record["said"],
                record["log_p_before"],
                record["log_p_after"],
            )
        )
    columns = [
        "relation",
        "prompt",
        "right",
        "untouched",
        "own neurons off",
        "kind",
        Column("log P before", ".2f"),
        Column("log P after", ".2f"),
    ]
    return Table(
        columns, rows, "Answers before and after (two tokens)", folded=True, name="answers"
    )


# ---- words about the paper


def _paper_notes(drops: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the losses differ from the paper's, in words."""
    pairs = [
        (d["relation"], d["lost"] / d["n"], PAPER_LOST[d["relation"]] / 50)
        for d in drops
        if d["relation"] in PAPER_LOST and d["n"]
    ]
    if not pairs:
        return ["The paper reports none of these relations."]
    here = sorted(share for _, share, _ in pairs)[len(pairs) // 2]
    there = sorted(share for _, _, share in pairs)[len(pairs) // 2]
    notes = [
        f"The paper's Llama-2-7B loses {there:.0%} of its evaluation prompts in the median "
        f"over these relations, this model {here:.0%}."
    ]
    weaker = [name for name, share, paper in pairs if share < paper / 2]
    stronger = [name for name, share, paper in pairs if share > 2 * paper]
    if weaker:
        notes.append(f"Less than half of what the paper reports is lost in {', '.join(weaker)}.")
    if stronger:
        notes.append(f"More than twice what the paper reports is lost in {', '.join(stronger)}.")
    if not weaker and not stronger:
        notes.append("No relation differs from the paper by more than a factor of two.")
    return notes


def _interference_notes(run: StoredRun) -> list[str]:
    mother = [c for c in run.table(INTER, "matrix") if c["asked"] == "person_mother" != c["off"]]
    if not mother:
        return []
    gains = sum(c["drop"] is not None and c["drop"] < 0 for c in mother)
    return [
        "In the paper mother improves when 5 of 11 other sets are off; "
        f"here when {gains} of {len(mother)} are."
    ]


def _place_words(places: Sequence[Mapping[str, Any]], n_layers: int) -> list[str]:
    total = sum(r["n"] for r in places)
    if not total or n_layers < 3:
        return []
    thirds = [0, 0, 0]
    sites: dict[str, int] = {}
    for record in places:
        thirds[min(2, 3 * record["layer"] // n_layers)] += record["n"]
        sites[record["site"]] = sites.get(record["site"], 0) + record["n"]
    low, middle, high = (n / total for n in thirds)
    by_site = ", ".join(f"{site} {n / total:.0%}" for site, n in sites.items())
    where = "as in the paper" if middle == max(low, middle, high) else "other than in the paper"
    return [
        f"Lower third of the layers {low:.0%}, middle {middle:.0%}, upper {high:.0%}: {where}, "
        f"where the sets sit mostly in the middle layers. By site: {by_site}."
    ]


def _overlap_notes(pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    shared = pairs.get(("person_father", "person_mother"))
    if shared is None:
        return []
    return [
        f"Father and mother share {shared['of_smaller']:.0%} of their neurons; in the paper's "
        f"Llama-2-7B {PAPER_FATHER_MOTHER:.0%}."
    ]


def _percent(share: float | None) -> str:
    return "an undefined share" if share is None else f"{share:.0%}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points of accuracy".replace("-", "−")
