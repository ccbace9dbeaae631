"""Who profits when another relation's neurons are off."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.heatmaps import annotated_heatmap
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, percents, records_table
from broca.report.stored_run import StoredRun

INTERFERENCE = "relations.interference"
PAPER_MOTHER_GAINS = (5, 11)


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
    columns = {
        "asked": "asked",
        "off": "neurons off",
        "n": Column("facts", "d"),
        **percents(before="before", after="after"),
        "gained": Column("became right", "d"),
        "lost": Column("became wrong", "d"),
        "log_p_gain": Column("gain of log P", ".3f"),
        "log_p_gain_low": Column("low", ".3f"),
        "log_p_gain_high": Column("high", ".3f"),
        "p_log_p_holm": Column("p (Holm)", "p", "log P, paired sign flips, one-sided"),
        "p_accuracy_holm": Column("p (Holm), accuracy", "p"),
    }

    ranked = sorted(pairs, key=lambda pair: -pair["log_p_gain"])
    return Section(
        "Interference: who profits",
        claim="Some relations do better when another relation's neurons are off.",
        text=run.words(INTERFERENCE),
        figures=[figure],
        tables=[records_table(ranked, columns, "All pairs", name="pairs-tested"), _right(run)],
        notes=_gain_notes(run),
        changes="A pair interferes where the other relation surely gains beyond matched random "
        "sets, after Holm's correction over all pairs. More facts make small gains "
        "visible.",
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


REPORT = StudyReport(lambda run, study: [interference_section(run)])
