"""Whether a query's neurons are those of its letter or of its wording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.report.page import Answer, Section
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import estimate
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.parts.verdicts import answer, interval_of, is_near_chance
from broca.report.stored_run import StoredRun

STUDY = "queries.controls"
SETS = {"own": "own neurons", "letter": "letter neurons", "matched": "matched random"}
ASKED = {
    "found": "own question, as found",
    "same letter": "own question, same letter",
    "other letter": "own question, other letter",
    "others, same letter": "other questions, same letter",
    "others, other letter": "other questions, other letter",
}


def _record(run: StoredRun, kind: str, asked: str) -> Mapping[str, Any]:
    records = run.table(STUDY, "effects")
    return next(r for r in records if (r["set"], r["asked"]) == (kind, asked))


def _answers(run: StoredRun, study: str) -> list[Answer]:
    (test,) = run.table(STUDY, "test")
    told = [
        f"{ASKED[asked]} {interval_of(_record(run, 'own', asked), 'change')}"
        for asked in ASKED
        if _record(run, "own", asked)["n"]
    ]
    letters = _record(run, "letter", "found")
    if letters["n"]:
        told.append(f"as many letter neurons, own question {interval_of(letters, 'change')}")
    near = is_near_chance(run, STUDY)
    return [
        answer(
            "Are they the question's neurons, not its letter's?",
            "cannot tell" if near else test["verdict"],
            f"Own neurons suppressed change P: {', '.join(told)} (n = {test['n']} queries).",
        )
    ]


def _figure(run: StoredRun) -> Figure:
    rows = [
        {"group": ASKED[r["asked"]], "condition": SETS[r["set"]], "estimate": _change(r)}
        for r in run.table(STUDY, "effects")
        if r["n"]
    ]
    return dot_intervals(
        rows,
        title="By letter",
        caption="Mean of (P′ − P) / P over queries, suppressed, 95 % intervals. Letter neurons: "
        "those of prompts of other questions with the same right letter.",
        value_title="(P′ − P) / P",
        percent=True,
        name="query-letters",
    )


def _change(record: Mapping[str, Any]) -> Any:
    return estimate(record, "change") if record["n"] else None


def _section(run: StoredRun) -> Section:
    effects = Table(
        ["prompts", *(Column(name, "percent", "mean (P′ − P) / P") for name in SETS.values())],
        [
            (words, *(_change(_record(run, kind, asked)) for kind in SETS))
            for asked, words in ASKED.items()
        ],
        "Change of the answer's probability, suppressed",
        name="query-letters",
    )
    stability = Table(
        [
            *("question", "letter", "wording", Column("pairs", "d"), Column("queries", "d")),
            Column("shared", "percent", "Jaccard of the neurons of two prompts"),
        ],
        [
            (r["question"], r["letter"], r["wording"], r["pairs"], r["n"], estimate(r, "jaccard"))
            for r in run.table(STUDY, "stability")
        ],
        "Neurons that two prompts share, by what the prompts have in common",
        name="query-stability",
    )
    return Section(
        "The letter and the wording",
        "Neurons found for a query serve its question, not its letter nor its wording.",
        run.words(STUDY),
        figures=[_figure(run)],
        tables=[effects, stability],
        notes=[
            "A neuron of the letter moves other questions with that letter as much as the own "
            "one; a neuron of the question moves the own one at any letter."
        ],
        changes="Yes: with the right option at other letters, the own neurons cost P surely more "
        "than matched random ones, by smallest_share. No: surely less than that.",
    )


REPORT = StudyReport(lambda run, study: [_section(run)], answers=_answers)
