"""Sets of queries suppressed in several ways: table, picture and sentences of such a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.page import Answer
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import estimate, point
from broca.report.parts.tables import Column, Table
from broca.report.parts.verdicts import answer, interval_of, is_near_chance
from broca.report.stored_run import StoredRun

KINDS = {
    "related": "own answer",
    "same": "same field",
    "unrelated": "other fields",
    "matched": "matched random neurons, own answer",
    "active": "random as active, own answer",
    "ceiling": "all neurons, own answer",
}
"""Columns of a way, and how pictures call them; a query's own neurons where none are named."""
SHORT = {
    "matched": "matched random",
    "active": "random as active",
    "unrelated": "answers of other fields",
}
TESTS = {"matched": "matched random", "active": "random as active"}


def ways_table(run: StoredRun, study: str, names: Mapping[str, str], heading: str) -> Table:
    """Every way with its controls, tests and verdicts.

    Args:
        run: The run.
        study: The study.
        names: Way -> its words.
        heading: What a way is.
    """
    records = run.table(study, "ways")
    kinds = [kind for kind in KINDS if any(r.get(kind) is not None for r in records)]
    tests = [test for test in TESTS if test in kinds]
    letters = any(r.get("within") is not None for r in records)
    columns = [
        heading,
        Column("queries", "d"),
        *(Column(KINDS[kind], "percent", "mean (P′ − P) / P") for kind in kinds),
        *(
            column
            for test in tests
            for column in (
                Column(f"p, {TESTS[test]}", "p", "sign flips over queries, Holm"),
                f"verdict, beyond {TESTS[test]}",
            )
        ),
    ]
    if letters:
        columns += [
            Column("P within the letters", "percent", "change, own neurons on the own answer"),
            Column("margin", ".2f", "change of the right letter's logit over the best wrong one"),
        ]
    rows = [
        (
            names[record["way"]],
            record["n"],
            *(_estimate(record, kind) for kind in kinds),
            *(
                value
                for test in tests
                for value in (record.get(f"p_{test}_holm"), record.get(f"{test}_verdict"))
            ),
            *((_estimate(record, name) for name in ("within", "margin")) if letters else ()),
        )
        for record in records
    ]
    return Table(columns, rows, "Change of the answer's probability, suppressed", name=_slug(study))


def ways_figure(
    run: StoredRun, study: str, names: Mapping[str, str], title: str, width: int
) -> Figure:
    """Every way's own and random sets."""
    rows = [
        {"group": names[record["way"]], "condition": words, **point(record, kind)}
        for record in run.table(study, "ways")
        for kind, words in KINDS.items()
        if record.get(kind) is not None
    ]
    return dot_intervals(
        rows,
        title=title,
        caption="Mean of (P′ − P) / P over queries, NA-ICA's neurons suppressed, 95 % intervals.",
        value_title="(P′ − P) / P",
        percent=True,
        width=width,
        name=_slug(study),
    )


def ways_answer(
    run: StoredRun,
    study: str,
    question: str,
    names: Mapping[str, str],
    verdict: str,
    kinds: Sequence[str],
) -> Answer:
    """A verdict with every way's figures in one sentence."""
    records = run.table(study, "ways")
    told = "; ".join(
        f"{names[r['way']]} by {interval_of(r, 'related')}"
        + "".join(
            f", {SHORT[kind]} {interval_of({kind: r[kind]}, kind)}"
            for kind in kinds
            if r.get(kind) is not None
        )
        for r in records
    )
    near = is_near_chance(run, study)
    sentence = f"Suppressed, own neurons change P {told} (n = {records[0]['n']} queries)."
    return answer(question, "cannot tell" if near else verdict, sentence)


def _estimate(record: Mapping[str, Any], name: str) -> Any:
    return estimate(record, name) if record.get(name) is not None else None


def _slug(study: str) -> str:
    return study.replace(".", "-")
