"""Sections on what relations have to do with each other: sharing, interference, concepts."""

from __future__ import annotations

from broca.report.figure import Figure
from broca.report.heatmaps import annotated_heatmap
from broca.report.page import Answer, Section
from broca.report.relations.tables import cells
from broca.report.relations.words import PAPER_FATHER_MOTHER
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table

VERSATILITY = "relations.versatility"
INTERFERENCE = "relations.interference"
CONCEPT = "relations.concept"
PAPER_SHARED = {
    ("person_father", "person_mother"): PAPER_FATHER_MOTHER,
    ("person_occupation", "person_sport_position"): 297 / 3000,
}
"""Shares of their 3,000 neurons that two sets have in common in Llama-2-7B (the paper)."""
PAPER_MOTHER_GAINS = (5, 11)


def versatility_answer(run: StoredRun) -> Answer:
    """Who shares neurons?"""
    pairs = sorted(run.table(VERSATILITY, "pairs"), key=lambda pair: -pair["of_smaller"])
    figures = run.summary
    above = figures["versatility.pairs_above_chance"]
    top = pairs[0]
    return Answer(
        "Who shares them?",
        f"{above} of {len(pairs)} pairs of relations",
        f"share more than chance; most: {top['a']} and {top['b']} ({top['of_smaller']:.0%}), in "
        f"the mean {figures['versatility.overlap_mean']:.0%} (chance "
        f"{figures['versatility.overlap_chance']:.0%}).",
        "yes" if above else "no",
    )


def overlap_figure(run: StoredRun) -> Figure:
    """Share of neurons that two sets have in common."""
    pairs = run.table(VERSATILITY, "pairs")
    names = list(dict.fromkeys(name for pair in pairs for name in (pair["a"], pair["b"])))
    shares = {(p[x], p[y]): p["of_smaller"] for p in pairs for x, y in (("a", "b"), ("b", "a"))}
    chance = run.summary["versatility.overlap_chance"]
    return annotated_heatmap(
        [[shares.get((a, b)) for b in names] for a in names],
        names,
        names,
        title="Who shares neurons",
        caption=f"Share of their neurons that two sets have in common; by chance {chance:.1%}.",
        centre=None,
        text="{:.0%}".format,
        name="overlap-of-pairs",
    )


def versatility_section(run: StoredRun) -> Section:
    """Overlap, shared subjects, effect."""
    columns = [
        "a",
        "b",
        Column("shared", "d"),
        Column("of the smaller", "percent"),
        Column("Jaccard", ".3f"),
        Column("by chance", ".1f", "shared neurons of two random sets"),
        Column("p (Holm)", "p", "hypergeometric"),
        Column("shared subjects", "percent", "of detection subjects, of the smaller relation"),
        Column("a loses, b off", "percent", "acc_drop"),
        Column("b loses, a off", "percent", "acc_drop"),
        Column("loss of log P", ".2f", "mean of both directions"),
    ]
    keys = (
        *("a", "b", "count", "of_smaller", "jaccard", "expected", "p_holm"),
        *("shared_subjects_of_smaller", "drop_a", "drop_b", "log_p_drop"),
    )
    pairs = run.table(VERSATILITY, "pairs")
    membership = Table(
        [Column("in sets", "d"), Column("neurons", "d"), Column("by chance", ".1f")],
        cells(run.table(VERSATILITY, "membership"), ("sets", "neurons", "expected")),
        "In how many sets a neuron is",
        name="membership",
    )
    return Section(
        "Versatility: who shares neurons",
        claim="Related relations share many neurons, and some unrelated ones do.",
        text=run.words(VERSATILITY),
        figures=[overlap_figure(run)],
        tables=[
            Table(columns, cells(pairs, keys), "Pairs of relations", name="pairs"),
            membership,
        ],
        notes=_shared_notes(run),
    )


def _shared_notes(run: StoredRun) -> list[str]:
    notes = []
    for pair in run.table(VERSATILITY, "pairs"):
        paper = PAPER_SHARED.get((pair["a"], pair["b"]))
        if paper is not None:
            here = pair["of_smaller"]
            verdict = "less" if here < paper / 2 else "more" if here > 2 * paper else "alike"
            notes.append(
                f"{pair['a']} and {pair['b']}: in the paper's Llama-2-7B {paper:.0%} of their "
                f"neurons are shared, here {here:.0%} ({verdict})."
            )
    return notes or ["The paper reports none of these pairs."]


def interference_section(run: StoredRun) -> Section:
    """Pairs of which one profits."""
    pairs = run.table(INTERFERENCE, "pairs")
    names = sorted({pair["asked"] for pair in pairs})
    gain = {(p["asked"], p["off"]): p for p in pairs}
    matrix = [[-gain[a, o]["log_p_gain"] if a != o else None for o in names] for a in names]
    raised = [
        (i, j)
        for i, a in enumerate(names)
        for j, o in enumerate(names)
        if a != o and gain[a, o]["raised"]
    ]
    figure = annotated_heatmap(
        matrix,
        names,
        names,
        title="Loss of log P when another relation's neurons are off",
        caption="Mean log P before − after, evaluation facts. Red: loss; blue: gain. Framed: a "
        "gain that is significant after Holm over all pairs, and at least 0.05 nats.",
        row_title="asked",
        column_title="neurons off",
        limit=1.0,
        outline=raised,
        name="interference",
    )
    columns = [
        "asked",
        "neurons off",
        Column("facts", "d"),
        Column("before", "percent"),
        Column("after", "percent"),
        Column("became right", "d"),
        Column("became wrong", "d"),
        Column("gain of log P", ".3f"),
        Column("low", ".3f"),
        Column("high", ".3f"),
        Column("p (Holm)", "p", "log P, paired sign flips, one-sided"),
        Column("p (Holm), accuracy", "p"),
    ]
    keys = (
        *("asked", "off", "n", "before", "after", "gained", "lost", "log_p_gain"),
        *("log_p_gain_low", "log_p_gain_high", "p_log_p_holm", "p_accuracy_holm"),
    )
    ranked = sorted(pairs, key=lambda pair: -pair["log_p_gain"])
    return Section(
        "Interference: who profits",
        claim="Some relations do better when another relation's neurons are off.",
        text=run.words(INTERFERENCE),
        figures=[figure],
        tables=[Table(columns, cells(ranked, keys), "All pairs", name="pairs-tested"), _right(run)],
        notes=_gain_notes(run),
    )


def _right(run: StoredRun) -> Table:
    rows = []
    for record in run.table(INTERFERENCE, "became_right"):
        prompt = run.prompts.get(record["prompt"], {})
        rows.append(
            (
                record["asked"],
                record["off"],
                prompt.get("text", record["prompt"]),
                record["before"].strip(),
                record["after"].strip(),
                record["log_p_before"],
                record["log_p_after"],
            )
        )
    columns = (
        *("asked", "neurons off", "prompt", "untouched", "after"),
        Column("log P before", ".2f"),
        Column("log P after", ".2f"),
    )
    return Table(columns, rows, "Answers that became right", folded=True, name="became-right")


def _gain_notes(run: StoredRun) -> list[str]:
    mother = [p for p in run.table(INTERFERENCE, "pairs") if p["asked"] == "person_mother"]
    if not mother:
        return []
    gains, raised = sum(p["after"] > p["before"] for p in mother), sum(p["raised"] for p in mother)
    there, of = PAPER_MOTHER_GAINS
    return [
        f"In the paper mother is answered better when {there} of {of} other sets are off; here "
        f"accuracy rises with {gains} of {len(mother)}, log P clearly with {raised}."
    ]


def concept_section(run: StoredRun) -> Section:
    """Relation sets beside concept sets."""
    pairs = run.table(CONCEPT, "pairs")
    names = list(dict.fromkeys(pair["relation"] for pair in pairs))
    concepts = list(dict.fromkeys(pair["concept"] for pair in pairs))
    share = {(p["relation"], p["concept"]): p for p in pairs}
    own = [
        (i, j)
        for i, name in enumerate(names)
        for j, concept in enumerate(concepts)
        if share[name, concept]["own"]
    ]
    figure = annotated_heatmap(
        [[share[name, concept]["of_smaller"] for concept in concepts] for name in names],
        names,
        concepts,
        title="Neurons shared with concepts",
        caption=f"Share of a relation's set that is in a concept's set; framed: the concept of its "
        f"subjects. By chance {run.summary['concept.chance']:.1%}.",
        centre=None,
        text="{:.0%}".format,
        outline=own,
        name="concepts",
    )
    columns = [
        "relation",
        "concept of its subjects",
        *(
            Column(name, "percent")
            for name in (
                *("shared with it", "shared with others", "own set off", "its concept's set off"),
                *("other concepts' sets off", "own set without the concept's off"),
            )
        ),
    ]
    keys = (
        *("relation", "concept", "shared_own", "shared_others", "drop", "drop_own_concept"),
        *("drop_other_concepts", "drop_without_concept"),
    )
    return Section(
        "Relation or concept",
        claim="Relation neurons are not merely neurons of what the subjects are.",
        text=run.words(CONCEPT),
        figures=[figure],
        tables=[
            Table(
                columns,
                cells(run.table(CONCEPT, "relations"), keys),
                "Overlaps, and losses of right answers (acc_drop)",
                name="concepts",
            )
        ],
        notes=[
            "The paper compares relation sets with concept sets as well; none of its figures for "
            "Llama-2-7B is known here, so nothing is compared."
        ],
    )
