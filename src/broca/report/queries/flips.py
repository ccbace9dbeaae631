"""Answers flipped by boosting and suppressing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.report.page import Answer, Section
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import ALL, action_words, estimate, grouping, point
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.parts.theme import WIDTH
from broca.report.parts.verdicts import answer, is_near_chance, judge_record, together
from broca.report.stored_run import StoredRun

FEW = 10  # queries below which the first screen draws no conclusion
ASKED = {"boost": "answered wrongly, turned right", "suppress": "answered rightly, turned wrong"}
Record = Mapping[str, Any]


def _flips_answer(run: StoredRun, study: str) -> Answer:
    """Whether own neurons flip more answers than random ones, action by action."""
    question = f"Do query neurons flip answers, by {grouping(study)}?"
    own = {r["action"]: r for r in _whole(run, study) if r["method"] == "na-ica"}
    sentence = "; ".join(_flipped(run, action, record) for action, record in own.items())
    alpha = run.setting("queries", "alpha", 0.05)
    verdicts = [
        judge_record(record, "beyond", p=record.get("p_matched"), alpha=alpha)
        for record in own.values()
        if record["n"] >= FEW
    ]
    verdict = "cannot tell" if is_near_chance(run, study) else together(verdicts)
    if verdict == "yes" and len(verdicts) < len(own):  # of boost or suppress nothing is known
        verdict = "in part"
    return answer(question, verdict, f"{sentence}.")


def _flipped(run: StoredRun, action: str, record: Record) -> str:
    words, (before, after) = action_words(run, action), ASKED[action].split(", ")
    if not record["candidates"]:
        return f"{words}: no prompt is {before}, so none could be {after}"
    low, high = record.get("rate_low"), record.get("rate_high")
    ends = f" [{low:.1%}, {high:.1%}]" if low is not None and high is not None else ""
    return (
        f"{words}, {_percent(record['rate'])}{ends} of {record['candidates']} prompts "
        f"{ASKED[action]}, random neurons {_percent(record.get('matched'))}"
    )


def _whole(run: StoredRun, study: str) -> list[dict[str, Any]]:
    return [record for record in run.table(study, "flips") if record["field"] == ALL]


def _flips_section(run: StoredRun, study: str) -> Section:
    by = grouping(study)
    return Section(
        f"Knowledge editing at inference, by {by}",
        "Boosting a query's own neurons turns wrong answers right, and suppressing them turns "
        "right ones wrong, more often than other methods' neurons.",
        run.words(study),
        figures=[_flips_figure(run, study)],
        tables=[_flips_table(run, study), _paired_table(run, study), _each_table(run, study)],
        notes=[
            "A flip is a change of the preferred letter. Rates are over the prompts that could "
            'flip; the paper counts over all queries, which is the column "of all".',
            "Methods that find no neurons for a query flip nothing there.",
        ],
        changes="Yes: boosted and suppressed, own neurons surely flip 5 points more of the prompts "
        "that could flip than matched random ones. No: surely less. More prompts that could flip "
        "(wrong answers for the boost) narrow the interval.",
    )


def _flips_figure(run: StoredRun, study: str) -> Figure:
    rows = [
        {
            "panel": f"{action_words(run, record['action'])}: {ASKED[record['action']]}",
            "group": record["method"],
            "condition": label,
            **point(record, name),
        }
        for record in _whole(run, study)
        for name, label in (("rate", "of those that could flip"), ("share", "of all"))
        if record[name] is not None
    ]
    return dot_intervals(
        rows,
        title=f"Answers flipped, by {grouping(study)}",
        caption="Share of prompts whose preferred letter flips, 95 % intervals over queries.",
        value_title="flipped",
        percent=True,
        width=WIDTH // 2 - 70,
        name=f"flips-{grouping(study)}",
    )


def _flips_table(run: StoredRun, study: str) -> Table:
    published = {r["method"]: r for r in run.table(study, "published")}
    columns = [
        "action",
        "method",
        Column("flips", "d"),
        Column("of", "d", "prompts answered wrongly (boost) or rightly (suppress)"),
        Column("flipped", "percent", "of the prompts that could flip"),
        Column("of all", "percent", "of all prompts, as in the paper"),
        Column("published", "percent", "of all, Llama-2-7B-chat"),
        Column("matched", "percent", "matched random sets, of the prompts that could flip"),
        Column("p", "p", "own against matched sets, sign flips over queries"),
    ]
    rows = [
        (
            record["action"],
            record["method"],
            record["flips"],
            record["candidates"],
            estimate(record, "rate"),
            estimate({**record, "n": record["queries"]}, "share"),
            published.get(record["method"], {}).get(record["action"]),
            record.get("matched"),
            record.get("p_matched"),
        )
        for record in sorted(_whole(run, study), key=lambda r: r["action"])
    ]
    caption = "Flips by method; published: of all, Llama-2-7B-chat"
    return Table(columns, rows, caption, name=f"flips-{grouping(study)}")


def _paired_table(run: StoredRun, study: str) -> Table:
    columns = [
        "action",
        "method",
        "against",
        Column("queries", "d"),
        Column("gap", "percent", "difference of the rates, paired bootstrap over queries"),
        Column("p (Holm)", "p", "sign flips over queries, two-sided"),
    ]
    rows = [
        (r["action"], r["method"], r["other"], r["n"], estimate(r, "gap"), r["p_holm"])
        for r in run.table(study, "paired")
    ]
    return Table(
        columns,
        rows,
        "Methods compared over the same queries",
        folded=True,
        name=f"flips-paired-{grouping(study)}",
    )


def _each_table(run: StoredRun, study: str) -> Table:
    columns = [
        grouping(study),
        "action",
        "method",
        Column("could flip", "d"),
        Column("flips", "d"),
        Column("flipped", "percent"),
        Column("of all", "percent"),
        Column("the other way", "percent", "of all prompts"),
    ]
    rows = [
        (
            record["field"],
            record["action"],
            record["method"],
            record["candidates"],
            record["flips"],
            estimate(record, "rate"),
            estimate(record, "share"),
            record["against"],
        )
        for record in run.table(study, "flips")
    ]
    return Table(
        columns,
        rows,
        f"Flips by {grouping(study)} and method",
        folded=True,
        name=f"flips-each-{grouping(study)}",
    )


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


REPORT = StudyReport(
    lambda run, study: [_flips_section(run, study)],
    answers=lambda run, study: [_flips_answer(run, study)] if run.table(study, "flips") else [],
)
