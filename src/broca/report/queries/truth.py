"""Attributions against what neurons do, one by one and together."""

from __future__ import annotations

from broca.report.page import Answer, Section
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import estimate
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.parts.verdicts import answer, interval_of
from broca.report.stored_run import StoredRun

STUDY = "queries.truth"
JOINT = {
    "joint_attribution": "largest attribution",
    "joint_exact": "largest single loss",
    "joint_random": "random",
    "own_joint": "NA-ICA's set",
    "own_single": "NA-ICA's set, single effects added",
}


def _answers(run: StoredRun, study: str) -> list[Answer]:
    question = "Do attributions tell what neurons do?"
    if not run.table(STUDY, "agreement"):
        return [answer(question, "cannot tell", run.words(STUDY)[0])]
    (record,) = run.table(STUDY, "agreement")
    v = record["v"]
    sentence = (
        f"One by one: rank correlation with exact effects {_number(run, 'spearman', '.2f')}, "
        f"{_number(run, 'recall', '.0%')} of the {v} largest losses found. Together: P changes by "
        f"{interval_of(record, 'joint_attribution')} without the first {v} by attribution, "
        f"{interval_of(record, 'joint_exact')} without those of the largest single loss, "
        f"{interval_of(record, 'joint_random')} without random ones (n = {record['n']} prompts)."
    )
    return [answer(question, record["verdict"], sentence)]


def _number(run: StoredRun, name: str, form: str) -> str:
    (record,) = run.table(STUDY, "agreement")
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    ends = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return f"{record[name]:{form}}{ends}"


def _figure(run: StoredRun) -> Figure:
    (record,) = run.table(STUDY, "agreement")
    rows = [
        {"group": words, "condition": "off together", "estimate": estimate(record, name)}
        for name, words in JOINT.items()
    ]
    return dot_intervals(
        rows,
        title="Neurons switched off together",
        caption=f"Change of P of the answer without {record['v']} neurons chosen in each way, and "
        f"without the query's own set; means over {record['n']} prompts, 95 % intervals.",
        value_title="(P′ − P) / P",
        percent=True,
        name="truth-joint",
    )


def _section(run: StoredRun) -> Section:
    shown = bool(run.table(STUDY, "agreement"))
    columns = [
        "query",
        "field",
        Column("Spearman", ".2f", "attribution against the loss of log P, over the neurons"),
        Column("Pearson", ".2f"),
        Column("recall", "percent", "of the largest losses, among the largest attributions"),
        *(Column(words, "percent", "change of P, off together") for words in JOINT.values()),
        Column("measured", "percent", "share of the neurons whose effect was measured"),
    ]
    keys = ("query", "field", "spearman", "pearson", "recall", *JOINT, "measured")
    table = Table(
        columns, cells(run.table(STUDY, "prompts"), keys), "Prompts", folded=True, name="truth"
    )
    return Section(
        "Attributions against the truth",
        "The neurons of the largest attribution are those that carry the answer.",
        run.words(STUDY),
        figures=[_figure(run)] if shown else [],
        tables=[table] if shown else [],
        notes=[
            "Exact: every hidden neuron set to 0 alone where the answer is read. Single and joint "
            "truth are different questions: neurons that carry the same hide each other."
        ],
        changes="Yes: rank correlation and recall both surely above one half. No: both surely "
        "below. More prompts (n_truth) narrow the intervals.",
    )


REPORT = StudyReport(lambda run, study: [_section(run)], answers=_answers)
