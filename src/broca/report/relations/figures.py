"""The pictures of the relation studies."""

from __future__ import annotations

from broca.report.charts import bars_with_intervals, dot_intervals, ladder_lines
from broca.report.figure import Figure
from broca.report.heatmaps import annotated_heatmap
from broca.report.runs import StoredRun
from broca.report.theme import WIDTH

INTRA, INTER, CONTROLS = "relations.intra", "relations.inter", "relations.controls"
NARROW = 330  # pixels, of a picture on the first screen

OFF_WORDS = {
    "nothing": "untouched",
    "own": "own neurons off",
    "matched": "matched random off",
    "uniform": "uniform random off",
}


def set_names(run: StoredRun) -> list[str]:
    return list(dict.fromkeys(record["set"] for record in run.table(INTER, "sets")))


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
        caption="Share of right answers by what is switched off; 95 % bootstrap intervals over "
        "facts.",
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
