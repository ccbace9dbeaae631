"""The tables of the query studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.estimates import Estimate
from broca.report.queries.figures import ALL, BY, FREE, PARITY, whole
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table

WORST = 20  # prompts shown of those that converge worst
NAN = float("nan")


def estimate(record: Mapping[str, Any], name: str) -> Estimate | None:
    """An entry of a record with its interval; ends that are not finite are left open."""
    if record[name] is None:
        return None
    low, high = (record[f"{name}_{end}"] for end in ("low", "high"))
    ends = (NAN if low is None else low, float("inf") if high is None else high)
    return Estimate(record[name], *ends, record["n"])


def effects_table(run: StoredRun, study: str) -> Table:
    """Related, Unrelated, their difference, PCR, tests; the paper's PCR beside ours."""
    published = {r["method"]: r for r in run.table(study, "published")}
    columns = [
        "action",
        "method",
        Column("queries", "d"),
        Column("Related", "percent", "mean (P′ − P) / P with own neurons"),
        Column("Unrelated", "percent", f"the same on queries of other {BY[study]}s"),
        Column("|R| − |U|", ".3f"),
        Column("PCR", ".2f", "|Related| / |Unrelated|; noise where Unrelated is near 0"),
        Column("matched", "percent", "matched random sets on the query's own prompts"),
        Column("p, matched", "p", "sign flips over queries, own against matched sets"),
        Column("PCR, Llama-2-7B-chat", "", "published"),
    ]
    rows = [
        (
            record["action"],
            record["method"],
            record["n"],
            *(estimate(record, name) for name in ("related", "unrelated", "difference", "pcr")),
            record.get("matched"),
            record.get("p_matched"),
            published.get(record["method"], {}).get(record["action"]),
        )
        for record in sorted(whole(run, study), key=lambda r: r["action"])
    ]
    return Table(columns, rows, "Effects by method", name=f"effects-{BY[study]}")


def fields_table(run: StoredRun, study: str) -> Table:
    """The same for every field."""
    columns = [
        BY[study],
        "action",
        "method",
        Column("queries", "d"),
        Column("Related", "percent"),
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
            *(estimate(record, name) for name in ("related", "unrelated", "difference", "pcr")),
        )
        for record in run.table(study, "effects")
        if record["field"] != ALL
    ]
    return Table(
        columns, rows, f"Effects by {BY[study]} and method", folded=True, name=f"each-{BY[study]}"
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
        columns, rows, "Methods compared over the same queries", name=f"paired-{BY[study]}"
    )


def accuracy_table(run: StoredRun, study: str) -> Table:
    """What the untouched model answers."""
    columns = [
        BY[study],
        Column("queries", "d"),
        Column("right letters", "percent"),
        Column("guessing", "percent"),
        "near chance",
        Column("mean P", ".3f"),
    ]
    rows = [
        (
            r["field"],
            r["n"],
            estimate(r, "accuracy"),
            r["chance"],
            "yes" if r["near_chance"] else "",
            r["mean_p"],
        )
        for r in run.table(study, "accuracy")
    ]
    return Table(columns, rows, "The untouched model", name=f"accuracy-{BY[study]}")


def probability_table(run: StoredRun, study: str) -> Table:
    """Mean P by field and method."""
    columns = [
        BY[study],
        "method",
        Column("queries", "d"),
        *(Column(name, ".4f") for name in ("untouched", "boost", "suppress")),
    ]
    keys = ("field", "method", "n", "untouched", "boost", "suppress")
    return Table(
        columns,
        _cells(run.table(study, "probabilities"), keys),
        "Probability of the right letter, mean over queries",
        folded=True,
        name=f"probabilities-{BY[study]}",
    )


def counts_table(run: StoredRun, study: str) -> Table:
    """Mean number of neurons per field and method."""
    records = run.table(study, "counts")
    names = [name for name in (records[0] if records else {}) if name not in ("query", "field")]
    rows = []
    for field in [ALL, *dict.fromkeys(r["field"] for r in records)]:
        here = [r for r in records if field in (ALL, r["field"])]
        means = (sum(r[name] for r in here) / max(1, len(here)) for name in names)
        rows.append((field, len(here), *means))
    columns = [BY[study], Column("queries", "d"), *(Column(name, ".1f") for name in names)]
    return Table(
        columns,
        rows,
        "Neurons per query, mean; cluster: the coarse cluster",
        name=f"counts-{BY[study]}",
    )


def common_table(run: StoredRun, study: str) -> Table:
    """Common neurons with their share of the clusters."""
    return Table(
        ["neuron", Column("clusters", "percent")],
        _cells(run.table(study, "common"), ("neuron", "share")),
        "Common neurons: in more than a share u of the clusters",
        folded=True,
        name=f"common-{BY[study]}",
    )


def convergence_table(run: StoredRun, study: str) -> Table:
    """The prompts that converge worst."""
    columns = [
        "prompt",
        Column("P", ".4f"),
        Column("largest |P(1) − P(0)|", ".2e"),
        Column("completeness error", "percent"),
        Column("worst neuron", "percent"),
        Column("nodes", "d"),
        "form",
        "converged",
    ]
    keys = (
        *("prompt", "p", "largest_change", "completeness_error", "step_change"),
        *("n_steps", "form", "converged"),
    )
    listed = run.table(study, "convergence")
    rows = _cells([r for r in listed if not r["without_effect"]][:WORST], keys)
    return Table(
        columns,
        rows,
        f"Worst convergence, {len(rows)} of {len(listed)} prompts",
        name="convergence",
    )


def queries_table(run: StoredRun, study: str) -> Table:
    """Every query with its neurons."""
    listed = run.table(study, "queries")
    effects = [name for name in ("boost", "suppress") if listed and name in listed[0]]
    columns = [
        "query",
        BY[study],
        "question",
        "answer",
        Column("right", "percent", "share of its prompts"),
        Column("P", ".3f"),
        *(Column(name, "percent", "(P′ − P) / P with its NA-ICA neurons") for name in effects),
        Column("neurons", "d"),
        "first neurons",
    ]
    keys = ("query", "field", "question", "answer", "right", "p", *effects, "n", "neurons")
    return Table(columns, _cells(listed, keys), "Queries", folded=True, name=f"queries-{BY[study]}")


def free_table(run: StoredRun) -> Table:
    """Overlap per query."""
    columns = [
        "sets",
        "query",
        "field",
        Column("letter", "d"),
        Column("in words", "d"),
        Column("overlap", "percent"),
        Column("with others", "percent"),
        Column("chance", "percent"),
    ]
    keys = ("kind", "query", "field", "proxy", "free", "own", "others", "chance")
    return Table(
        columns,
        _cells(run.table(FREE, "overlaps"), keys),
        "Letter and answer in words, query by query",
        folded=True,
        name="free-form",
    )


def parity_tables(run: StoredRun) -> list[Table]:
    """Clusters beside the published ones."""
    return [
        Table(
            ["figure", "ours", "published"],
            _cells(run.table(PARITY, "parity"), ("figure", "ours", "published")),
            "Over all clusters",
            name="parity",
        ),
        Table(
            ["query", "field", Column("ours", "d"), Column("published", "d")],
            _cells(run.table(PARITY, "clusters"), ("query", "field", "ours", "published")),
            "Sizes of the coarse clusters, in the order of the file",
            folded=True,
            name="clusters",
        ),
    ]


def _cells(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    return [tuple(record[key] for key in keys) for record in records]
