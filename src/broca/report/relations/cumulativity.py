"""How many neurons it takes, and whether they act together."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.charts import ladder_lines
from broca.report.parts.figure import Figure
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.parts.theme import NARROW, WIDTH
from broca.report.parts.verdicts import answer, judge_record
from broca.report.parts.words import percent
from broca.report.stored_run import StoredRun

CUMULATIVITY = "relations.cumulativity"
SERIES = {"own": "own relation", "other": "other relations", "uniform": "own, random neurons off"}


def cumulativity_answer(run: StoredRun) -> Answer:
    """Do they act together, and how many does it take?"""
    figures = run.summary
    half, macro = figures["cumulativity.k_half"], figures["cumulativity.macro"]
    if half is None:
        size = f"The largest set costs {percent(figures['cumulativity.own_drop_largest'])} of the "
        size += "right answers"
    else:
        size = (
            f"{half:,} neurons ({figures['cumulativity.k_half_share']:.1%} of all) lose half; "
            f"other relations then lose {percent(figures['cumulativity.other_drop_at_half'])}, as "
            f"many random neurons {percent(figures['cumulativity.uniform_drop_at_half'])}"
        )
    random = figures.get("cumulativity.random_order")
    cumulative = (
        f"of the facts lost in a step, {percent(macro)} survive that step alone, with the same "
        f"neurons in random order {percent(random)}"
    )
    return answer(
        "Do they act together, beyond a random order?",
        judge_record(figures, "cumulativity.beyond_random"),
        f"{size}; {cumulative}.",
    )


def loss_figure(run: StoredRun) -> Figure:
    """Own and other loss, and selectivity, over the number of neurons."""
    series = {
        "own_drop": "own loss",
        "other_drop": "other loss",
        "uniform_drop": "own loss, random neurons off",
        "selectivity": "selectivity (own − other) / (own + other)",
    }
    rows = [
        {"series": words, "k": point["k"], "value": point[key], "low": None, "high": None}
        for key, words in series.items()
        for point in run.table(CUMULATIVITY, "curve")
        if point.get(key) is not None
    ]
    return ladder_lines(
        rows,
        title="Loss of own and of other relations, and selectivity",
        caption="Share of right answers lost (acc_drop), means over relations; selectivity is 1 "
        "where only the own relation loses and 0 where others lose as much.",
        value_title="share",
        name="selectivity",
    )


def ladder_figure(run: StoredRun, narrow: bool = False) -> Figure:
    """Accuracy over the number of neurons."""
    rows = [
        {
            "series": words,
            "k": point["k"],
            "value": point[key],
            "low": point[f"{key}_low"],
            "high": point[f"{key}_high"],
        }
        for key, words in SERIES.items()
        for point in run.table(CUMULATIVITY, "curve")
    ]
    return ladder_lines(
        rows,
        title="Right answers by number of neurons off",
        caption="A relation's top k neurons off: its own evaluation prompts, and those of other "
        "relations; means over relations, 95 % bootstrap intervals over facts.",
        value_title="accuracy",
        width=NARROW if narrow else WIDTH,
        name=f"cumulativity{'-small' if narrow else ''}",
    )


def _relations_figure(run: StoredRun) -> Figure:
    rows = [
        {"panel": r["relation"], "series": SERIES[key], "k": r["k"], "value": r[key]}
        for r in run.table(CUMULATIVITY, "rungs")
        for key in ("own", "other")
    ]
    return ladder_lines(
        [{**row, "low": None, "high": None} for row in rows],
        title="The same, relation by relation",
        caption="Accuracy on the own and on the other relations' prompts.",
        value_title="accuracy",
        name="cumulativity-relations",
    )


def cumulativity_section(run: StoredRun) -> Section:
    """The ladder and the set-difference test."""
    differences = records_table(
        run.table(CUMULATIVITY, "differences"),
        {
            "k1": Column("k1", "d"),
            "k2": Column("k2", "d"),
            "total": Column(
                "total", "d", "answers right with the top k1 off and wrong with the top k2 off"
            ),
            "affected": Column("affected", "d", "of these, wrong with only ranks k1 to k2 off"),
            "micro": Column("micro", ".2f", "1 − affected / total over answers"),
            "macro": Column("macro", ".2f", "mean over relations"),
        },
        "Set-difference test (the paper's table 3)",
        name="set-difference",
    )
    columns = {
        "relation": "relation",
        "k": Column("k", "d"),
        **percents(before="untouched"),
        "own": Column("own", "percent", "accuracy with its top k off"),
        "other": Column("others", "percent", "accuracy of the others with its top k off"),
        "uniform": Column("random", "percent", "own accuracy with k random neurons off"),
        "selectivity": Column("selectivity", ".2f", "(own − other) / (own + other) of the losses"),
        "log_p_drop": Column("loss of log P, own", ".2f"),
        "other_log_p_drop": Column("loss of log P, others", ".2f"),
    }

    rungs = records_table(
        run.table(CUMULATIVITY, "rungs"), columns, "Every rung", folded=True, name="rungs"
    )
    sizes = records_table(
        run.table(CUMULATIVITY, "sizes"),
        {
            "relation": "relation",
            "k": Column("k for half of its loss", "d"),
            **percents(share="of all", own_drop="loss there", other_drop="others lose there"),
            "selectivity": Column("selectivity there", ".2f"),
            **percents(largest_loss="loss of the largest set"),
        },
        "How many neurons cost half of what the largest set costs",
        name="k-half",
    )
    figures = run.summary
    falls, micro = figures["cumulativity.steps_down"], figures["cumulativity.micro"]
    here = f"{micro:.2f}" if micro is not None else "undefined"
    return Section(
        "Cumulativity: how many neurons",
        claim="The more of a relation's neurons are off, the more is lost, and it takes them "
        "together.",
        text=run.words(CUMULATIVITY),
        figures=[ladder_figure(run), loss_figure(run), _relations_figure(run)],
        tables=[sizes, differences, rungs],
        notes=[
            "In the paper's Llama-2-7B own accuracy falls steadily with k and others hold up to "
            f"3,000 to 10,000 of 835,584 neurons (0.4 to 1.2 %); here own accuracy falls at "
            f"{falls:.0%} of the rungs, and cumulativity over answers is {here}.",
            "Random order: the largest set's neurons shuffled. A dose that only adds up has a "
            "cumulativity of .4 to 1.0 as well.",
        ],
        changes="Yes: over relations, cumulativity surely exceeds that of random orders by .05. "
        "No: surely by less. More facts per relation sharpen both.",
    )


REPORT = StudyReport(
    lambda run, study: [cumulativity_section(run)],
    answers=lambda run, study: [cumulativity_answer(run)],
    pictures=lambda run, study: [ladder_figure(run, narrow=True)],
)
