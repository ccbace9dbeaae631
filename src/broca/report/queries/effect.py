"""What boosting and suppressing a query's neurons does, by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from broca.estimates import Estimate, fewest_to_flip, judge
from broca.report.page import Answer, Section
from broca.report.parts.charts import bars_with_intervals, dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import (
    ALL,
    action_words,
    answered,
    estimate,
    grouping,
    point,
    slug,
)
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, records_table
from broca.report.parts.theme import NARROW, WIDTH
from broca.report.parts.verdicts import answer, interval_of
from broca.report.queries.find import (
    accuracy_table,
    forms_tables,
    near_chance,
    neurons_section,
    trust_answers,
)
from broca.report.stored_run import StoredRun

EFFECT, LANGUAGES = "queries.effect", "queries.languages"
LETTERS = "queries.effect.letters"
KINDS = {"related": "own answer", "same": "same {by}", "unrelated": "other {by}s"}
"""Whose answers are measured, and how pictures call them."""
CLAIMS = {
    EFFECT: "The neurons found for a query change the probability of its right answer, more than "
    "that of answers in other fields.",
    LANGUAGES: "The neurons found for a query in one language change its answer, more than answers "
    "in other languages.",
}
CLAIMS[LETTERS] = CLAIMS[EFFECT]
TITLES = {
    EFFECT: "Query neurons by field",
    LETTERS: "Query neurons by field, with letters for answers",
    LANGUAGES: "Query neurons by language",
}


def _kinds(
    records: Iterable[Mapping[str, Any]], study: str, kinds: Mapping[str, str] = KINDS
) -> Iterator[dict[str, Any]]:
    """Every record's effects on the own answer, on the same field and on others."""
    for record in records:
        for kind, words in kinds.items():
            if record.get(kind) is not None:
                named = {"kind": words.format(by=grouping(study)), "point": point(record, kind)}
                yield {**record, **named}


SHOWN = ("related", "same", "unrelated", "difference", "pcr")


def whole(run: StoredRun, study: str) -> list[dict[str, Any]]:
    """Effects over all fields together."""
    return [record for record in run.table(study, "effects") if record["field"] == ALL]


def effect_figure(run: StoredRun, study: str) -> Figure:
    """Related and Unrelated by method, boost and suppress apart."""
    rows = [
        {
            "panel": action_words(run, record["action"]),
            "group": record["method"],
            "condition": record["kind"],
            **record["point"],
        }
        for record in _kinds(whole(run, study), study)
    ]
    return dot_intervals(
        rows,
        title=f"Change of the answer's probability, by {grouping(study)}",
        caption="Mean of (P′ − P) / P over queries, 95 % bootstrap intervals: each query's own "
        "neurons on its own prompts (Related), on other queries of the same "
        f"{grouping(study)}, and on those of other {grouping(study)}s (Unrelated).",
        value_title="(P′ − P) / P",
        percent=True,
        width=WIDTH // 2 - 70,
        name=f"effect-{slug(study)}",
    )


def kinds_figure(run: StoredRun, study: str) -> Figure:
    """Suppressed: own answer, same field, other fields, and random neurons, by method."""
    records = [r for r in whole(run, study) if r["action"] == "suppress"]
    rows = [
        {"group": r["method"], "condition": r["kind"], **r["point"]}
        for r in _kinds(records, study, {**KINDS, "matched": "random neurons, own answer"})
    ]
    return dot_intervals(
        rows,
        title=f"Change of the {answered(run, study)}'s P, {action_words(run, 'suppress')}",
        caption="Mean of (P′ − P) / P over queries, 95 % intervals. Random neurons: as many in the "
        "same layers as the method found.",
        value_title="(P′ − P) / P",
        percent=True,
        width=NARROW,
        name=f"effect-{slug(study)}-small",
    )


def difference_figure(run: StoredRun, study: str) -> Figure:
    """|Related| - |Unrelated| by method."""
    rows = [
        {
            "group": record["method"],
            "condition": action_words(run, record["action"]),
            **point(record, "difference"),
        }
        for record in whole(run, study)
    ]
    return dot_intervals(
        rows,
        title=f"|Related| − |Unrelated|, by {grouping(study)}",
        caption="Above 0: a query's neurons move its own answer more than those of other "
        f"{grouping(study)}s. 95 % bootstrap intervals over queries.",
        value_title="|Related| − |Unrelated|",
        name=f"difference-{slug(study)}",
    )


def fields_figure(run: StoredRun, study: str) -> Figure:
    """Related and Unrelated of NA-ICA, field by field."""
    rows = [
        {
            "panel": action_words(run, record["action"]),
            "group": record["field"],
            "condition": record["kind"],
            **record["point"],
        }
        for record in _kinds(run.table(study, "effects"), study)
        if record["method"] == "na-ica" and record["field"] != ALL
    ]
    return dot_intervals(
        rows,
        title=f"NA-ICA, {grouping(study)} by {grouping(study)}",
        caption=f"The same for the queries of one {grouping(study)}.",
        value_title="(P′ − P) / P",
        percent=True,
        width=WIDTH // 2 - 70,
        name=f"effect-each-{slug(study)}",
    )


def probability_figure(run: StoredRun, study: str) -> Figure:
    """Mean P untouched, boosted and suppressed by NA-ICA, field by field."""
    rows = [
        {
            "group": record["field"],
            "condition": condition if condition == "untouched" else action_words(run, condition),
            **point(record, condition),
        }
        for record in run.table(study, "probabilities")
        if record["method"] == "na-ica"
        for condition in ("untouched", "boost", "suppress")
    ]
    return bars_with_intervals(
        rows,
        title=f"Probability of the right {answered(run, study)}",
        caption="Mean over queries, with a query's own NA-ICA neurons scaled.",
        value_title="P",
        name=f"probability-{slug(study)}",
    )


def effects_table(run: StoredRun, study: str) -> Table:
    """Related, Unrelated, their difference, PCR, tests; the paper's PCR beside ours."""
    published = {r["method"]: r for r in run.table(study, "published")}
    columns = [
        "action",
        "method",
        Column("queries", "d"),
        Column("Related", "percent", "mean (P′ − P) / P with own neurons"),
        Column("same field", "percent", f"the same on other queries of the {grouping(study)}"),
        Column("Unrelated", "percent", f"the same on queries of other {grouping(study)}s"),
        Column("|R| − |U|", ".3f"),
        Column("PCR", ".2f", "|Related| / |Unrelated|; noise where Unrelated is near 0"),
        Column("matched", "percent", "matched random sets on the query's own prompts"),
        Column("beyond matched", "percent", "Related − matched, in the wanted direction"),
        Column("p, matched", "p", "sign flips over queries, own against matched sets"),
        Column("PCR, Llama-2-7B-chat", "", "published"),
    ]
    rows = [
        (
            record["action"],
            record["method"],
            record["n"],
            *(estimate(record, name) for name in SHOWN),
            record.get("matched"),
            estimate(record, "beyond") if record.get("beyond") is not None else None,
            record.get("p_matched"),
            published.get(record["method"], {}).get(record["action"]),
        )
        for record in sorted(whole(run, study), key=lambda r: r["action"])
    ]
    return Table(columns, rows, "Effects by method", name=f"effects-{slug(study)}")


def ceilings_table(run: StoredRun, study: str) -> Table:
    """What all neurons of a layer, and of all layers, do at the same positions."""
    rows = [(r["off"], r["n"], estimate(r, "change")) for r in run.table(study, "ceilings")]
    return Table(
        ["all neurons of", Column("queries", "d"), Column("change of P", "percent")],
        rows,
        "The ceiling: all neurons of the site off at the same positions",
        folded=True,
        name=f"ceilings-{slug(study)}",
    )


def fields_table(run: StoredRun, study: str) -> Table:
    """The same for every field."""
    columns = [
        grouping(study),
        "action",
        "method",
        Column("queries", "d"),
        Column("Related", "percent"),
        Column("same field", "percent"),
        Column("Unrelated", "percent"),
        Column("|R| − |U|", ".3f"),
        Column("PCR", ".2f"),
    ]
    rows = [
        (
            record["field"],
            record["action"],
            record["method"],
            record["n"],
            *(estimate(record, name) for name in SHOWN),
        )
        for record in run.table(study, "effects")
        if record["field"] != ALL
    ]
    return Table(
        columns,
        rows,
        f"Effects by {grouping(study)} and method",
        folded=True,
        name=f"each-{slug(study)}",
    )


def paired_table(run: StoredRun, study: str) -> Table:
    """Every method against NA-ICA, over the same queries."""
    columns = [
        "action",
        "NA-ICA against",
        Column("queries", "d"),
        Column("gap", ".3f", "NA-ICA's |R| − |U| minus the other's, paired bootstrap over queries"),
        Column("p (Holm)", "p", "sign flips of per-query effects, two-sided"),
    ]
    rows = [
        (r["action"], r["method"], r["n"], estimate(r, "gap"), r["p_holm"])
        for r in run.table(study, "paired")
    ]
    return Table(
        columns, rows, "Methods compared over the same queries", name=f"paired-{slug(study)}"
    )


def probability_table(run: StoredRun, study: str) -> Table:
    """Mean P by field and method."""
    columns = {
        "field": grouping(study),
        "method": "method",
        "n": Column("queries", "d"),
        "untouched": Column("untouched", ".4f"),
        "boost": Column("boost", ".4f"),
        "suppress": Column("suppress", ".4f"),
    }

    return records_table(
        run.table(study, "probabilities"),
        columns,
        f"Probability of the right {answered(run, study)}, mean over queries",
        folded=True,
        name=f"probabilities-{slug(study)}",
    )


def _effect_answer(run: StoredRun, study: str) -> Answer:
    by = grouping(study)
    what = {"letter": "letter", "answer": "answer in words"}[answered(run, study)]
    question = f"Do query neurons carry their {what}, by {by}?"
    record = _own(run, study, "suppress")
    accuracy = run.table(study, "accuracy")[0]
    others = [f"own answer {interval_of(record, 'related')}"]
    if record.get("same") is not None:
        others.append(f"others of the same {by} {interval_of(record, 'same')}")
    others.append(f"those of other {by}s {interval_of(record, 'unrelated')}")
    if record.get("matched") is not None:
        others.append(f"random neurons, own answer {interval_of(record, 'matched')}")
    detail = f"Suppressed, they change P: {', '.join(others)} (n = {record['n']} queries)."
    if accuracy["near_chance"]:
        return answer(question, "cannot tell", f"The model answers near chance. {detail}")
    n = record["n"]
    if record.get("beyond") is None:
        return answer(question, "cannot tell", f"{detail} Matched random neurons were not tried.")
    value, low, high = (_finite(record[f"beyond{end}"]) for end in ("", "_low", "_high"))
    beyond = Estimate(value, low, high, n)
    smallest, alpha = (run.setting("queries", name, 0.05) for name in ("smallest_share", "alpha"))
    reachable = record.get("groups", n) >= fewest_to_flip(alpha)
    verdict = judge(beyond, smallest, p=record["p_matched"], alpha=alpha, reachable=reachable)
    return answer(question, verdict, f"{detail}{_ceiling(run, study)}")


def _ceiling(run: StoredRun, study: str) -> str:
    whole = run.table(study, "ceilings")[:1]
    return "".join(
        f" All neurons of all layers there, {interval_of(record, 'change')}." for record in whole
    )


def _finite(value: float | None) -> float:
    return float("nan") if value is None else value


def _own(run: StoredRun, study: str, action: str) -> Mapping[str, Any]:
    return next(r for r in whole(run, study) if r["method"] == "na-ica" and r["action"] == action)


def _effect_section(run: StoredRun, study: str) -> Section:
    return Section(
        TITLES[study],
        CLAIMS[study],
        run.words(study),
        figures=[
            effect_figure(run, study),
            difference_figure(run, study),
            fields_figure(run, study),
            probability_figure(run, study),
        ],
        tables=[
            effects_table(run, study),
            ceilings_table(run, study),
            paired_table(run, study),
            accuracy_table(run, study),
            *forms_tables(run, study),
            fields_table(run, study),
            probability_table(run, study),
        ],
        notes=[
            "PCR divides by |Unrelated|: where that is near 0, PCR is noise; read the difference "
            "and its interval.",
            *(r["note"] for r in run.table(study, "published_notes")),
        ],
        changes="Yes: Related beyond matched random neurons, the whole interval above the smallest "
        "effect of interest (smallest_share), p < alpha. No: the whole interval below it. More "
        "queries narrow the interval; the ceiling says what any set could reach.",
    )


def _answers(run: StoredRun, study: str) -> list[Answer]:
    return [_effect_answer(run, study), *trust_answers(run, study)]


def _sections(run: StoredRun, study: str) -> list[Section]:
    return [_effect_section(run, study), neurons_section(run, study)]


def _pictures(run: StoredRun, study: str) -> list[Figure]:
    return [kinds_figure(run, study)]


REPORT = StudyReport(_sections, _answers, _pictures, near_chance)
