"""The pictures of the query studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.report.charts import (
    bars_with_intervals,
    dot_intervals,
    histogram,
    neurons_per_layer_and_site,
)
from broca.report.figure import Figure
from broca.report.runs import StoredRun
from broca.report.theme import WIDTH

EFFECT, LANGUAGES = "queries.effect", "queries.languages"
FREE, PARITY, FIND = "queries.free-form", "queries.parity", "queries.find"
BY = {EFFECT: "field", LANGUAGES: "language", FIND: "field"}
ALL = "all"
NARROW = 330  # pixels, of a picture on the first screen

ACTION_WORDS = {"boost": "boosted (× 2)", "suppress": "suppressed (× 0)"}


def action_words(run: StoredRun, action: str) -> str:
    """What an action does, with the run's own factor."""
    factor = run.setting("queries", action)
    words = {"boost": "boosted", "suppress": "suppressed"}[action]
    return ACTION_WORDS[action] if factor is None else f"{words} (× {factor:g})"


def whole(run: StoredRun, study: str) -> list[dict[str, Any]]:
    """Effects over all fields together."""
    return [record for record in run.table(study, "effects") if record["field"] == ALL]


def point(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A value of a record as charts read it, with its interval where there is one."""
    return {
        "value": record[name],
        "low": record.get(f"{name}_low"),
        "high": record.get(f"{name}_high"),
        "n": record["n"],
    }


def effect_figure(run: StoredRun, study: str) -> Figure:
    """Related and Unrelated by method, boost and suppress apart."""
    rows = [
        {
            "panel": action_words(run, record["action"]),
            "group": record["method"],
            "condition": kind,
            **point(record, kind),
        }
        for record in whole(run, study)
        for kind in ("related", "unrelated")
    ]
    return dot_intervals(
        rows,
        title=f"Change of the answer's probability, by {BY[study]}",
        caption="Mean of (P′ − P) / P over queries, 95 % bootstrap intervals. Related: each "
        "query's own neurons on its own prompts; Unrelated: on queries of other "
        f"{BY[study]}s.",
        value_title="(P′ − P) / P",
        percent=True,
        width=WIDTH // 2 - 70,
        name=f"effect-{BY[study]}",
    )


def difference_figure(run: StoredRun, study: str, narrow: bool = False) -> Figure:
    """|Related| - |Unrelated| by method."""
    shown = [record for record in whole(run, study) if not narrow or record["action"] == "suppress"]
    rows = [
        {
            "group": record["method"],
            "condition": action_words(run, record["action"]),
            **point(record, "difference"),
        }
        for record in shown
    ]
    return dot_intervals(
        rows,
        title=f"|Related| − |Unrelated|, by {BY[study]}"
        + (f", {action_words(run, 'suppress')}" if narrow else ""),
        caption="Above 0: a query's neurons move its own answer more than those of other "
        f"{BY[study]}s. 95 % bootstrap intervals over queries.",
        value_title="|Related| − |Unrelated|",
        width=NARROW if narrow else WIDTH,
        name=f"difference-{BY[study]}{'-small' if narrow else ''}",
    )


def fields_figure(run: StoredRun, study: str) -> Figure:
    """Related and Unrelated of NA-ICA, field by field."""
    rows = [
        {
            "panel": action_words(run, record["action"]),
            "group": record["field"],
            "condition": kind,
            **point(record, kind),
        }
        for record in run.table(study, "effects")
        if record["method"] == "na-ica" and record["field"] != ALL
        for kind in ("related", "unrelated")
    ]
    return dot_intervals(
        rows,
        title=f"NA-ICA, {BY[study]} by {BY[study]}",
        caption="The same for the queries of one "
        f"{BY[study]}; Unrelated are the queries of the others.",
        value_title="(P′ − P) / P",
        percent=True,
        width=WIDTH // 2 - 70,
        name=f"effect-each-{BY[study]}",
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
        title="Probability of the right letter",
        caption="Mean over queries, with a query's own NA-ICA neurons scaled.",
        value_title="P",
        name=f"probability-{BY[study]}",
    )


def counts_figure(run: StoredRun, study: str) -> Figure:
    """Neurons per query."""
    counts = [record["na-ica"] for record in run.table(study, "counts")]
    return histogram(
        counts,
        title="Neurons per query",
        caption="NA-ICA, after common neurons are removed.",
        value_title="neurons",
        bins=max(1, max(counts, default=1)),
        name=f"neurons-per-query-{BY[study]}",
    )


def layers_figure(run: StoredRun, study: str) -> Figure:
    """In which layers the neurons lie, by method."""
    layers = run.table(study, "layers")
    site = run.setting("queries", "site", "hidden")
    rows = [
        {"panel": r["method"], "layer": r["layer"], "site": site, "count": r["n"]} for r in layers
    ]
    return neurons_per_layer_and_site(
        rows,
        title="Layers",
        caption="Neurons of all queries together, by method; common: the common neurons.",
        n_layers=max((r["layer"] for r in layers), default=0) + 1,
        name=f"layers-{BY[study]}",
    )


def convergence_figure(run: StoredRun, study: str) -> Figure:
    """Both figures of convergence over prompts."""
    prompts = [r for r in run.table(study, "convergence") if not r["without_effect"]]
    return histogram(
        [100 * r["step_change"] for r in prompts],
        title="How far attributions can be trusted",
        caption="Largest change of a neuron between two rules, % of the largest attribution, per "
        "prompt; converged means at most 2 %, and a completeness error of at most 1 %.",
        value_title="change of the worst neuron, %",
        references={"2 %": 2.0},
        name=f"convergence-{BY[study]}",
    )


def free_figure(run: StoredRun) -> Figure:
    """Overlap of the proxy's neurons with those of the answer in words."""
    rows = [
        {"group": total["kind"], "condition": label, "value": total[key], **ends, "n": total["n"]}
        for total in run.table(FREE, "totals")
        for label, key, ends in (
            ("own answer", "own", {"low": total["own_low"], "high": total["own_high"]}),
            ("other queries' answers", "others", {"low": None, "high": None}),
            ("chance", "chance", {"low": None, "high": None}),
        )
    ]
    return bars_with_intervals(
        rows,
        title="Letter against answer in words",
        caption="Share of the smaller set that both forms have in common, mean over queries.",
        value_title="overlap",
        name="free-form",
    )
