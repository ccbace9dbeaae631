"""Every set off for every relation: the matrix, what is said instead, the sets themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.page import Answer, Section
from broca.report.parts.charts import neurons_per_layer_and_site
from broca.report.parts.figure import Figure
from broca.report.parts.heatmaps import annotated_heatmap, overlap_heatmap
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, percents, records_table
from broca.report.parts.verdicts import MARGIN, answer, points_of
from broca.report.relations.versatility import PAPER_FATHER_MOTHER, VERSATILITY
from broca.report.stored_run import StoredRun

INTER = "relations.inter"
MOSTLY = 0.5  # share of a set that must belong to no other, for it to serve its relation alone


def set_names(run: StoredRun) -> list[str]:
    return list(dict.fromkeys(record["set"] for record in run.table(INTER, "sets")))


def _matrix(run: StoredRun, key: str) -> list[list[float | None]]:
    cells = {(c["asked"], c["off"]): c[key] for c in run.table(INTER, "matrix")}
    names = set_names(run)
    return [[cells[asked, off] for off in names] for asked in names]


def matrix_figure(run: StoredRun) -> Figure:
    names = set_names(run)
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


def log_p_matrix_figure(run: StoredRun) -> Figure:
    names = set_names(run)
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


def said_figure(run: StoredRun) -> Figure:
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


def sets_table(run: StoredRun) -> Table:
    columns = {
        "set": "set",
        "neurons": Column("neurons", "d"),
        "units": Column("units", "d", "gate i, up i and hidden i of a layer are one unit"),
        **percents(own_drop="own drop"),
        "other_drop": Column("other drop", "percent", "mean over the other relations"),
        **percents(other_drop_worst="worst other"),
        "other_drop_best": Column("best other", "percent", "negative: a relation gains"),
        "highest_ap": Column("highest AP", ".3f"),
        "lowest_ap": Column("lowest AP", ".3f"),
    }

    return records_table(run.table(INTER, "sets"), columns, "The sets", name="sets")


def answers_table(run: StoredRun) -> Table:
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


def interference_notes(run: StoredRun) -> list[str]:
    mother = [c for c in run.table(INTER, "matrix") if c["asked"] == "person_mother" != c["off"]]
    if not mother:
        return []
    gains = sum(c["drop"] is not None and c["drop"] < 0 for c in mother)
    return [
        "In the paper mother improves when 5 of 11 other sets are off; "
        f"here when {gains} of {len(mother)} are."
    ]


def place_words(places: Sequence[Mapping[str, Any]], n_layers: int) -> list[str]:
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


def overlap_notes(pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    shared = pairs.get(("person_father", "person_mother"))
    if shared is None:
        return []
    return [
        f"Father and mother share {shared['of_smaller']:.0%} of their neurons; in the paper's "
        f"Llama-2-7B {PAPER_FATHER_MOTHER:.0%}."
    ]


def _alone_answers(run: StoredRun) -> list[Answer]:
    figures = run.summary
    if figures.get("effect.other_loss") is None or not figures.get("effect.own_loss"):
        return []
    ends = ("", "_low", "_high")
    own, other = (
        [figures[f"effect.{whose}_loss{end}"] for end in ends] for whose in ("own", "other")
    )
    sentence = (
        f"The same sets cost other relations {points_of(*other)} of accuracy, their own "
        f"{points_of(*own)}; {figures['effect.coverage']:.0%} of all neurons belong to some set, "
        f"and {figures['effect.exclusive']:.0%} of a set to no other."
    )
    shared = figures["effect.exclusive"] < MOSTLY
    verdict = alone_verdict(own, other, figures.get("effect.relations_yes"), shared=shared)
    return [answer("Do they serve their relation alone?", verdict, sentence)]


def alone_verdict(
    own: Sequence[Any], other: Sequence[Any], shown: int | None, *, shared: bool
) -> str:
    """Alone: surely less than the smallest effect of interest for others, where there is an own.

    Args:
        own: Loss of the sets' own relations: value, low, high.
        other: The same of other relations.
        shown: Relations whose own loss was shown.
        shared: Whether most of a set belongs to other sets too: then it is "in part" at best.
    """
    if None in own or None in other or shown == 0:
        return "cannot tell"
    if other[2] < MARGIN:
        return "in part" if shared else "yes"
    if other[1] > MARGIN:
        return "in part" if own[1] > 2 * other[2] else "no"
    return "in part" if own[1] > 2 * other[2] else "not shown"


def _inter_section(run: StoredRun) -> Section:
    return Section(
        "Inter-relation: every set off for every relation",
        claim="A relation's neurons matter for it more than for other relations; some relations "
        "hurt or help each other.",
        text=run.words(INTER),
        figures=[matrix_figure(run), log_p_matrix_figure(run), said_figure(run)],
        tables=[sets_table(run), answers_table(run)],
        notes=interference_notes(run),
        changes="Yes: other relations surely lose less than 5 points with a relation's neurons "
        "off, and most of a set belongs to no other. A smaller k spares them more; coverage says "
        "how many neurons belong to none.",
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
            f"share {expected[0][0] / pairs[names[0], names[0]]['count']:.0%} of them."
            if names
            else "",
            sizes=[pairs[a, a]["count"] for a in names],
            expected=expected,
        ),
    ]
    return Section(
        "The sets: where they are, what they share",
        figures=figures[:1] if VERSATILITY in run.findings else figures,
        text=place_words(places, n_layers),
        notes=overlap_notes(pairs),
    )


REPORT = StudyReport(
    lambda run, study: [_inter_section(run), _sets_section(run)],
    answers=lambda run, study: _alone_answers(run),
    pictures=lambda run, study: [matrix_figure(run)],
)
