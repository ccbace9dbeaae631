"""What survives zero, mean and resample in the neurons' place."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.outcomes import estimate
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.parts.verdicts import answer, together
from broca.report.stored_run import StoredRun

STUDY = "relations.replacement"
WORDS = {
    "own": "own neurons",
    "matched": "matched random",
    "active": "random, as active",
    "other": "own neurons, other relations",
}


def _answer(run: StoredRun) -> Answer:
    question = "Does it hold, whatever is put in their place?"
    kinds = run.table(STUDY, "kinds")
    verdicts = [
        together(
            [r["active_verdict"] for r in run.table(STUDY, "relations") if r["replacement"] == kind]
        )
        for kind in (record["replacement"] for record in kinds)
    ]
    sentence = (
        "Beyond sets as active, surely more than the smallest effect of interest: "
        + ", ".join(
            f"{r['replacement']} in {r['active_yes']} of {r['relations']} relations "
            f"({100 * r['own']:.0f} points, sets as active {100 * (r['active'] or 0):.0f})"
            for r in kinds
        )
    )
    return answer(question, together(verdicts), f"{sentence}.")


def _section(run: StoredRun) -> Section:
    kinds, relations = run.table(STUDY, "kinds"), run.table(STUDY, "relations")
    each = [
        "replacement",
        "relation",
        Column("facts", "d"),
        Column("before", "percent"),
        *(Column(words, "percent", "loss of accuracy, points") for words in WORDS.values()),
        Column("p, matched", "p", "rank among matched sets, corrected over relations"),
        "verdict, matched",
        Column("p, as active", "p", "rank among sets as active, corrected over relations"),
        "verdict, as active",
        Column("log P, own", ".2f", "loss"),
        Column("log P, as active", ".2f", "loss"),
    ]
    keys = (
        *("replacement", "relation", "n", "before", *WORDS, "matched_p", "matched_verdict"),
        *("active_p", "active_verdict", "own_log_p", "active_log_p"),
    )
    summary = [
        "replacement",
        *(Column(words, "percent", "loss of accuracy, points") for words in WORDS.values()),
        Column("beyond matched", "percent", "over relations, 95 % interval"),
        "verdict, beyond matched",
        Column("beyond as active", "percent", "over relations, 95 % interval"),
        "verdict, beyond as active",
        Column("yes, beyond matched", "d", "relations, each for itself"),
        Column("yes, beyond as active", "d", "relations, each for itself"),
        Column("relations", "d"),
    ]
    rows = [
        (
            record["replacement"],
            *(estimate(record, key) for key in WORDS),
            *(estimate(record, "matched_beyond"), record["matched_verdict"]),
            *(estimate(record, "active_beyond"), record["active_verdict"]),
            *(record["matched_yes"], record["active_yes"], record["relations"]),
        )
        for record in kinds
    ]
    return Section(
        "What is put in the neurons' place",
        claim="A relation's neurons matter, whatever takes their place.",
        text=run.words(STUDY),
        figures=[
            plain_bars(
                kinds,
                "replacement",
                WORDS,
                title="Loss by what is put in the neurons' place",
                caption="Points of accuracy, means over relations.",
                value_title="loss of accuracy",
                name="replacement",
            )
        ],
        tables=[
            Table(summary, rows, "Means over relations", name="replacement"),
            Table(each, cells(relations, keys), "Relations", folded=True, name="replacements"),
        ],
        notes=[
            "Mean: over detection prompts. Resample: what the neurons say to one prompt of another "
            "relation, at every position. The paper sets neurons to zero."
        ],
        changes="Yes: under each replacement the own set ranks first among sets as active, and its "
        "loss beyond them is surely above smallest_points. More facts and more sets sharpen it.",
    )


REPORT = StudyReport(
    lambda run, study: [_section(run)],
    answers=lambda run, study: [_answer(run)],
)
