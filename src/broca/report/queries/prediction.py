"""The option that a field's neurons are most active for."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import estimate, point
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.parts.verdicts import answer, is_near_chance, judge_record
from broca.report.stored_run import StoredRun

PREDICTION = "queries.prediction"
ORDER = ("cannot tell", "no", "not shown", "small", "yes")
"""Verdicts, the weakest claim first: of two rivals the harder one decides."""


def _prediction_answer(run: StoredRun) -> Answer:
    record = run.table(PREDICTION, "fields")[0]
    told = "" if record["auroc"] is None else f"; AUROC of its margin {record['auroc']:.2f}"
    question = "Do a field's neurons predict answers?"
    detail = (
        f"Right on {record['neurons']:.0%} of held-out prompts; the model itself "
        f"{record['model']:.0%}, random neurons {record['random']:.0%}, guessing "
        f"{record['chance']:.0%}{told}."
    )
    if is_near_chance(run, PREDICTION):
        return answer(question, "cannot tell", f"The model answers near chance. {detail}")
    alpha = run.setting("queries", "alpha", 0.05)
    rivals = [
        judge_record(record, "beyond_random", p=record["p_holm"], alpha=alpha),
        judge_record(record, "beyond_chance"),
    ]
    return answer(question, min(rivals, key=ORDER.index), detail)


def _prediction_section(run: StoredRun) -> Section:
    shown = bool(run.table(PREDICTION, "fields"))
    return Section(
        "Prediction by neurons",
        "A field's neurons are most active when the right option is put as the answer, and their "
        "margin tells when the model is wrong.",
        run.words(PREDICTION),
        figures=[_accuracy_figure(run), _auroc_figure(run)] if shown else [],
        tables=[_prediction_table(run), _published_table(run), _queries_table(run)]
        if shown
        else [],
        notes=[
            "Neurons come from detection queries alone; every figure is on the other half. Random "
            "neurons: as many per layer, mean over draws.",
            "Activities are the neurons' values at the label's position, mean over the neurons, "
            "normalised per option position on the detection queries.",
        ],
        changes="Yes: the field's neurons are right on surely 5 points more of the held-out "
        "questions than random neurons and than guessing. No: surely less than that.",
    )


def _accuracy_figure(run: StoredRun) -> Figure:
    rows = [
        {
            "group": record["field"],
            "condition": label,
            **point(record, name),
        }
        for record in run.table(PREDICTION, "fields")
        for name, label in (
            ("neurons", "most active option"),
            ("model", "the model's letter"),
            ("random", "random neurons"),
            ("chance", "guessing"),
        )
    ]
    return dot_intervals(
        rows,
        title="Right answers on held-out questions",
        caption="Mean over questions, 95 % bootstrap intervals.",
        value_title="right",
        percent=True,
        reference=None,
        name="prediction",
    )


def _auroc_figure(run: StoredRun) -> Figure:
    rows = [
        {
            "group": record["field"],
            "condition": label,
            **point(record, name),
        }
        for record in run.table(PREDICTION, "fields")
        for name, label in (("auroc", "the field's neurons"), ("auroc_random", "random neurons"))
        if record["auroc"] is not None
    ]
    return dot_intervals(
        rows,
        title="Do neurons tell when the model is wrong?",
        caption="AUROC of the margin for the model's own choice, right against wrong answers; 0.5 "
        "is chance. Fields in which all held-out answers are right, or all wrong, have none.",
        value_title="AUROC",
        reference=0.5,
        name="prediction-auroc",
    )


def _prediction_table(run: StoredRun) -> Table:
    columns = [
        "field",
        Column("detection", "d", "queries the neurons come from"),
        Column("held out", "d", "queries predicted"),
        Column("neurons", "d", "size of the set"),
        Column("right", "percent", "held-out prompts of which the most active option is right"),
        Column("model", "percent", "held-out prompts the model answers rightly"),
        Column("random", "percent", "by random neurons"),
        Column("guessing", "percent"),
        Column("− model", "percent", "paired difference"),
        Column("− random", "percent", "paired difference"),
        Column("p (Holm)", "p", "against random neurons, sign flips over queries"),
        Column("wrong", "d", "held-out prompts the model answers wrongly"),
        Column("AUROC", ".2f", "of the margin for the model's letter"),
    ]
    rows = [
        (
            r["field"],
            r["detection"],
            r["n"],
            r["n_neurons"],
            estimate(r, "neurons"),
            estimate(r, "model"),
            r["random"],
            r["chance"],
            estimate(r, "beyond_model"),
            estimate(r, "beyond_random"),
            r["p_holm"],
            r["wrong"],
            estimate(r, "auroc"),
        )
        for r in run.table(PREDICTION, "fields")
    ]
    return Table(columns, rows, "Prediction by field", name="prediction")


def _published_table(run: StoredRun) -> Table:
    rows = [
        (f"{r['field']} (published)", r["neurons"], r["prompts"])
        for r in run.table(PREDICTION, "published")
    ]
    rows += [(r["field"], r["neurons"], r["model"]) for r in run.table(PREDICTION, "fields")]
    return Table(
        ["field", Column("by neurons", "percent"), Column("by prompts", "percent")],
        rows,
        "Beside the published accuracies (Llama-2-7B-chat)",
        name="prediction-published",
    )


def _queries_table(run: StoredRun) -> Table:
    columns = [
        "query",
        "field",
        "question",
        "answer",
        *(Column(name, "percent") for name in ("neurons", "model", "random")),
        Column("margin", ".2f"),
    ]
    keys = ("query", "field", "question", "answer", "neurons", "model", "random", "margin")
    rows = [tuple(r[key] for key in keys) for r in run.table(PREDICTION, "queries")]
    return Table(columns, rows, "Held-out queries", folded=True, name="prediction-queries")


REPORT = StudyReport(
    lambda run, study: [_prediction_section(run)],
    answers=lambda run, study: [_prediction_answer(run)] if run.table(study, "fields") else [],
)
