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
from broca.report.parts.verdicts import NEAR_CHANCE, WITHIN, Compared, is_near_chance, judge_more
from broca.report.stored_run import StoredRun

FEW = 10  # queries below which the first screen draws no conclusion
ASKED = {"boost": "answered wrongly, turned right", "suppress": "answered rightly, turned wrong"}
Record = Mapping[str, Any]


def _flips_answer(run: StoredRun, study: str) -> Answer:
    """Whether suppressing own neurons flips right answers more often than random ones."""
    by = grouping(study)
    question = f"Do query neurons flip answers, by {by}?"
    own = {r["action"]: r for r in _whole(run, study) if r["method"] == "na-ica"}
    detail = "; ".join(
        f"{action_words(run, action)}: {_percent(own[action]['rate'])} of "
        f"{own[action]['candidates']} prompts {ASKED[action]}"
        for action in own
    )
    if is_near_chance(run, study):
        return Answer(question, NEAR_CHANCE, detail)
    judged = [action for action, record in own.items() if record["n"] >= FEW]
    if not judged:
        return Answer(question, "This run cannot tell: too few prompts could flip", detail)
    verdicts = {action: _beyond_random(run, study, own[action]) for action in judged}
    beyond = [action for action, verdict in verdicts.items() if verdict == "more"]
    words = {"boost": "boosted, to right ones", "suppress": "suppressed, to wrong ones"}
    if beyond:
        tone = "yes" if len(beyond) == len(own) else "mixed"
        return Answer(question, "Yes: " + " and ".join(words[a] for a in beyond), detail, tone)
    if "cannot be told" in verdicts.values():
        return Answer(question, "Cannot be told from random neurons", detail)
    if "no more" in verdicts.values():
        return Answer(question, f"No more than random neurons, {WITHIN}", detail, "no")
    return Answer(question, "Not compared with random neurons", detail)


def _beyond_random(run: StoredRun, study: str, own: Record) -> Compared | None:
    """By the random method's neurons, else by matched random sets; None where there are neither."""
    for pair in run.table(study, "paired"):
        if (pair["method"], pair["other"], pair["action"]) == ("na-ica", "random", own["action"]):
            return judge_more(pair, "gap")
    p = own.get("p_matched")
    if p is None:
        return None
    return "more" if p < run.setting("queries", "alpha", 0.05) else "cannot be told"


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
