"""The first screen and the sections of the relation studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from broca.report.charts import neurons_per_layer_and_site
from broca.report.figure import Figure
from broca.report.heatmaps import overlap_heatmap
from broca.report.page import Answer, Section
from broca.report.relations import amount, reach, sharing, trust
from broca.report.relations.figures import (
    CONTROLS,
    INTER,
    INTRA,
    accuracy_figure,
    k_figure,
    log_p_figure,
    log_p_matrix_figure,
    matrix_figure,
    said_figure,
    set_names,
)
from broca.report.relations.tables import (
    accuracy_table,
    answers_table,
    drops_table,
    k_table,
    sets_table,
)
from broca.report.relations.words import (
    interference_notes,
    overlap_notes,
    paper_notes,
    percent,
    place_words,
    points,
)
from broca.report.runs import Part, StoredRun
from broca.report.tables import Table

ANSWERS: dict[str, Callable[[StoredRun], Answer]] = {
    amount.CUMULATIVITY: amount.cumulativity_answer,
    sharing.VERSATILITY: sharing.versatility_answer,
    reach.LANGUAGES: reach.languages_answer,
}
PICTURES: dict[str, Callable[[StoredRun], Figure]] = {
    amount.CUMULATIVITY: partial(amount.ladder_figure, narrow=True),
    sharing.VERSATILITY: sharing.overlap_figure,
    reach.LANGUAGES: reach.languages_figure,
}
"""Pictures of the first screen; the ladder also shows own beside random neurons."""

SECTIONS: dict[str, Callable[[StoredRun], Section]] = {
    amount.CUMULATIVITY: amount.cumulativity_section,
    sharing.VERSATILITY: sharing.versatility_section,
    sharing.INTERFERENCE: sharing.interference_section,
    reach.LANGUAGES: reach.languages_section,
    reach.TEMPLATES: reach.templates_section,
    amount.LAYERS: amount.layers_section,
    amount.ABLATION: amount.ablation_section,
    sharing.CONCEPT: sharing.concept_section,
    reach.GENERAL: reach.general_section,
    reach.RESILIENCE: reach.resilience_section,
}
TRUST: dict[str, Callable[[StoredRun], Section]] = {
    CONTROLS: trust.controls_section,
    trust.STABILITY: trust.stability_section,
    trust.POOLING: trust.pooling_section,
}

MARGIN = 0.05  # of accuracy: a difference up to this counts as none


def report_part(run: StoredRun) -> Part:
    """All that the relation studies show of a run."""
    part = Part()
    figures = run.summary
    if INTRA in run.findings:
        part.answers.append(_effect_answer(figures))
        part.figures.append(accuracy_figure(run, "evaluation", narrow=True))
        part.sections.append(_intra_section(run))
    part.notices += _notices(run)
    part.answers += [answer(run) for study, answer in ANSWERS.items() if study in run.findings]
    if INTER in run.findings:
        part.answers += _other_answers(run)
        part.figures.append(matrix_figure(run))
        part.sections += [_inter_section(run), _sets_section(run)]
    pictures = [picture(run) for study, picture in PICTURES.items() if study in run.findings]
    part.figures = [*pictures, *part.figures]
    part.sections += [section(run) for study, section in SECTIONS.items() if study in run.findings]
    if CONTROLS in run.findings:
        part.answers.append(_control_answer(figures))
    part.sections += [section(run) for study, section in TRUST.items() if study in run.findings]
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
        f"than matched random ones. Median loss: {percent(figures['effect.own_drop_median'])} of "
        f"the right answers, matched random {percent(figures['effect.matched_drop_median'])}.",
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
            f"The other relations lose {percent(other)} in the median, the own {percent(own)}.",
            "yes" if ratio >= 3 else "mixed" if own > other else "no",
        ),
        Answer(
            "Do relations stand in each other's way?",
            f"{negative} of {pairs} cells are negative",
            "There, a relation gains when the other's neurons are off. A single fact can make a "
            "cell negative; the interference study tests pairs.",
        ),
    ]


def _control_answer(figures: Mapping[str, Any]) -> Answer:
    beyond = figures.get("controls.shuffled_beyond_matched")
    if beyond is None:
        return Answer("Does the method make up what it finds?", "Not tested")
    ends = (figures.get(f"controls.shuffled_beyond_matched_{end}") for end in ("low", "high"))
    low, high = (beyond if end is None else end for end in ends)
    if max(abs(low), abs(high)) <= MARGIN:
        verdict, tone = "No", "yes"
    elif low > MARGIN or high < -MARGIN:
        verdict, tone = "It may", "no"
    else:
        verdict, tone = "Not seen; too few shuffles to rule it out", "mixed"
    return Answer(
        "Does the method make up what it finds?",
        verdict,
        f"Sets found for shuffled labels cost {points(beyond)} [{100 * low:+.1f}, "
        f"{100 * high:+.1f}] beyond matched random sets; up to {100 * MARGIN:.0f} points are "
        "taken for nothing.",
        tone,
    )


def _notices(run: StoredRun) -> list[str]:
    notices = []
    others = (study for study in run.findings if study.startswith("relations."))
    tables = [run.table(INTRA, "skipped"), *(run.table(study, "left_out") for study in others)]
    skipped = next((table for table in tables if table), [])
    if skipped:
        listed = "; ".join(f"{record['relation']} ({record['reason']})" for record in skipped)
        notices.append(f"{len(skipped)} relations were left out: {listed}.")
    if run.setting("relations", "detection_filter") == "none":
        notices.append("Neurons were found on prompts that the model may answer wrongly.")
    return notices


# ---- sections


def _intra_section(run: StoredRun) -> Section:
    drops = run.table(INTRA, "drops")
    tables = [drops_table(drops), accuracy_table(run)]
    if run.table(INTRA, "skipped"):
        rows = [(r["relation"], r["reason"]) for r in run.table(INTRA, "skipped")]
        tables.append(Table(("relation", "why it was left out"), rows, "Relations left out"))
    figures = [
        accuracy_figure(run, "evaluation"),
        accuracy_figure(run, "detection"),
        log_p_figure(run),
    ]
    if run.table(INTRA, "k"):
        figures.append(k_figure(run))
        tables.append(k_table(run))
    return Section(
        "Intra-relation: own neurons off",
        claim="Switching off a relation's neurons lowers its accuracy, also on facts they were "
        "not found on; random neurons do not.",
        text=run.words(INTRA),
        figures=figures,
        tables=tables,
        notes=paper_notes(drops),
    )


def _inter_section(run: StoredRun) -> Section:
    return Section(
        "Inter-relation: every set off for every relation",
        claim="A relation's neurons matter for it more than for other relations; some relations "
        "hurt or help each other.",
        text=run.words(INTER),
        figures=[matrix_figure(run), log_p_matrix_figure(run), said_figure(run)],
        tables=[sets_table(run), answers_table(run)],
        notes=interference_notes(run),
    )


def _sets_section(run: StoredRun) -> Section:
    places = run.table(INTER, "places")
    n_layers = run.environment["n_layers"]
    rows = [
        {"panel": r["set"], "layer": r["layer"], "site": r["site"], "count": r["n"]} for r in places
    ]
    names = set_names(run)
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
            caption="Share of the smaller set's neurons that is in the other; by chance two sets "
            f"share {expected[0][0]:.1f} neurons."
            if names
            else "",
            sizes=[pairs[a, a]["count"] for a in names],
            expected=expected,
        ),
    ]
    return Section(
        "The sets: where they are, what they share",
        figures=figures[:1] if sharing.VERSATILITY in run.findings else figures,
        text=place_words(places, n_layers),
        notes=overlap_notes(pairs),
    )
