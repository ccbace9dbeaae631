"""Own neurons off: the verdict, accuracies, drops with their tests, and how k was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.page import Answer, Section
from broca.report.parts.charts import bars_with_intervals, dot_intervals, ladder_lines
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import estimate
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, records_table
from broca.report.parts.theme import NARROW, WIDTH
from broca.report.parts.verdicts import answer, points_of, together
from broca.report.stored_run import StoredRun

INTRA = "relations.intra"
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


def accuracy_figure(run: StoredRun, part: str, narrow: bool = False) -> Figure:
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
        caption="Share of right answers by what is switched off; 95 % intervals over "
        "facts (Wilson).",
        value_title="accuracy",
        name=f"accuracy-{part}{'-small' if narrow else ''}",
        width=NARROW if narrow else WIDTH,
    )


def log_p_figure(run: StoredRun) -> Figure:
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


def k_figure(run: StoredRun) -> Figure:
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


def paper_notes(drops: Sequence[Mapping[str, Any]]) -> list[str]:
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


def drops_table(run: StoredRun) -> Table:
    """Own losses, their controls and verdicts."""
    columns = [
        "relation",
        Column("n", "d", "evaluation facts"),
        Column("before", "percent", "accuracy untouched"),
        Column("after", "percent", "accuracy with the own neurons off"),
        Column("own drop", "percent", "acc_drop, 95 % interval over facts"),
        Column("matched", "percent", "acc_drop with matched random sets off, their mean"),
        Column("uniform", "percent", "acc_drop with uniformly random sets off, their mean"),
        Column("beyond matched", "percent", "points of accuracy, paired over facts"),
        Column("p, rank", "p", "rank among matched sets, corrected over relations"),
        Column("p, active", "p", "rank among sets as active, corrected over relations"),
        "verdict",
    ]
    rows = [
        (
            *(record[key] for key in ("relation", "n", "before", "after")),
            *(estimate(record, "own_drop"), record["matched_drop"], record["uniform_drop"]),
            *(estimate(record, "beyond"), record["matched_accuracy_p"]),
            *(record["active_accuracy_p"], record["verdict"]),
        )
        for record in run.table(INTRA, "drops")
    ]
    return Table(columns, rows, "Own drops on evaluation facts", name="drops")


def further_table(run: StoredRun) -> Table:
    """Log P, the test that decides nothing, and counts beside the paper's."""
    rows = [
        {**record, "paper": PAPER_LOST.get(record["relation"])}
        for record in run.table(INTRA, "drops")
    ]
    columns = {
        "relation": "relation",
        "p_holm": Column("p, these sets", "p", "sign flips over facts against these sets, Holm"),
        "log_p_drop": Column("loss of log P", ".2f"),
        "matched_log_p_p": Column("p, rank by log P", "p", "among matched sets"),
        "lost": Column("lost here", "d", "prompts turned from right to wrong"),
        "paper": Column("lost, Llama-2-7B", "d", "of 50, as the paper reports it"),
    }
    caption = "Log P, and answers lost beside the paper's"
    return records_table(rows, columns, caption, folded=True, name="drops-further")


def accuracy_table(run: StoredRun) -> Table:
    """Accuracy and log P by what was off."""
    columns = [
        "relation",
        "part",
        "off",
        Column("facts", "d"),
        Column("accuracy", "percent"),
        Column("one-token objects", "percent"),
        Column("longer objects", "percent"),
        Column("log P", ".2f"),
    ]
    rows = [
        (
            *(record[key] for key in ("relation", "part", "off", "n")),
            estimate(record, "accuracy"),
            *(record[key] for key in ("accuracy_one_token", "accuracy_longer", "log_p")),
        )
        for record in run.table(INTRA, "accuracy")
    ]
    return Table(columns, rows, "Accuracy and log P", folded=True, name="accuracy")


def k_table(run: StoredRun) -> Table:
    table = run.table(INTRA, "k")
    form = "percent" if table[0]["by"] == "accuracy" else ".2f"
    columns = {
        "k": Column("k", "d"),
        "share": Column("share", ".2%"),
        "own": Column("own", form),
        "other": Column("other", form),
        "matched": Column("matched", form),
        "gain": Column("gain", form),
        "chosen": "chosen",
    }

    doubling = run.setting("relations", "k_doubling", 0.05)
    caption = (
        "How k was chosen, on detection prompts only; gain: own less the larger of other and "
        f"matched, less {100 * doubling:g} points for every doubling of k"
    )
    return records_table(table, columns, caption, folded=True, name="choice-of-k")


def _effect_answer(run: StoredRun) -> Answer:
    figures, drops = run.summary, run.table(INTRA, "drops")
    question = "Are there relation neurons?"
    verdicts = [record["verdict"] for record in drops]
    verdict, told = together(verdicts), [v for v in verdicts if v != "cannot tell"]
    if verdict == "cannot tell":
        return answer(question, verdict, _why_not(drops, figures))
    beyond = points_of(*(figures[f"effect.beyond_matched{end}"] for end in ("", "_low", "_high")))
    return answer(
        question,
        verdict,
        f"A relation's own {figures['effect.k']:,} neurons ({figures['effect.k_share']:.1%} of "
        f"all) off cost {beyond} of accuracy more than matched random sets; in "
        f"{verdicts.count('yes')} of {len(told)} relations that is surely more than "
        f"{100 * figures['effect.smallest_points']:g} points and ranks first among "
        f"{figures['effect.matched_sets']} sets.",
    )


def _why_not(drops: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> str:
    right = [record["right"] for record in drops]
    if not any(right):
        return "The model answers no evaluation prompt rightly, so there is no accuracy to lose."
    return (
        f"No test could have been passed: {max(right)} facts at most were answered rightly (5 are "
        f"needed), {figures['effect.matched_sets']} matched sets were tried (19 are needed)."
    )


def _intra_section(run: StoredRun) -> Section:
    drops = run.table(INTRA, "drops")
    tables = [drops_table(run), further_table(run), accuracy_table(run)]
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
        changes="Yes: the own set ranks first among the matched sets, corrected over relations, "
        "and the loss beyond them is surely above the smallest effect of interest "
        "(smallest_points). More evaluation facts narrow the interval, more matched sets "
        "sharpen the rank.",
    )


REPORT = StudyReport(
    lambda run, study: [_intra_section(run)],
    answers=lambda run, study: [_effect_answer(run)],
    pictures=lambda run, study: [accuracy_figure(run, "evaluation", narrow=True)],
)
