"""Who shares neurons."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.figure import Figure
from broca.report.parts.heatmaps import annotated_heatmap
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.parts.verdicts import answer, judge_record
from broca.report.stored_run import StoredRun

VERSATILITY = "relations.versatility"
PAPER_FATHER_MOTHER = 2053 / 3000
"""Share of their neurons that father and mother have in common in Llama-2-7B (the paper)."""
PAPER_SHARED = {
    ("person_father", "person_mother"): PAPER_FATHER_MOTHER,
    ("person_occupation", "person_sport_position"): 297 / 3000,
}
"""Shares of their 3,000 neurons that two sets have in common in Llama-2-7B (the paper)."""


def versatility_answer(run: StoredRun) -> Answer:
    """Who shares neurons?"""
    pairs = sorted(run.table(VERSATILITY, "pairs"), key=lambda pair: -pair["of_smaller"])
    figures = run.summary
    above = figures["versatility.pairs_above_chance"]
    top = pairs[0]
    sentence = (
        f"{above} of {len(pairs)} pairs share more than chance; most: {top['a']} and {top['b']} "
        f"({top['of_smaller']:.0%}); in the mean {figures['versatility.overlap_mean']:.0%}, by "
        f"chance {figures['versatility.overlap_chance']:.0%}."
    )
    verdict = judge_record(figures, "versatility.overlap_beyond")
    return answer("Do relations share neurons beyond chance?", verdict, sentence)


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
    columns = {
        "a": "a",
        "b": "b",
        "count": Column("shared", "d"),
        **percents(of_smaller="of the smaller"),
        "jaccard": Column("Jaccard", ".3f"),
        "expected": Column("by chance", ".1f", "shared neurons of two random sets"),
        "p_holm": Column("p (Holm)", "p", "hypergeometric"),
        "shared_subjects_of_smaller": Column(
            "shared subjects", "percent", "of detection subjects, of the smaller relation"
        ),
        "drop_a": Column("a loses, b off", "percent", "acc_drop"),
        "drop_b": Column("b loses, a off", "percent", "acc_drop"),
        "log_p_drop": Column("loss of log P", ".2f", "mean of both directions"),
    }

    pairs = run.table(VERSATILITY, "pairs")
    membership = records_table(
        run.table(VERSATILITY, "membership"),
        {
            "sets": Column("in sets", "d"),
            "neurons": Column("neurons", "d"),
            "expected": Column("by chance", ".1f"),
        },
        "In how many sets a neuron is",
        name="membership",
    )
    return Section(
        "Versatility: who shares neurons",
        claim="Related relations share many neurons, and some unrelated ones do.",
        text=run.words(VERSATILITY),
        figures=[overlap_figure(run)],
        tables=[
            records_table(pairs, columns, "Pairs of relations", name="pairs"),
            membership,
        ],
        notes=_shared_notes(run),
        changes="Yes: over relations, the share of neurons that two sets have in common surely "
        "exceeds chance by 5 points. No: surely by less.",
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


REPORT = StudyReport(
    lambda run, study: [versatility_section(run)],
    answers=lambda run, study: [versatility_answer(run)],
    pictures=lambda run, study: [overlap_figure(run)],
)
