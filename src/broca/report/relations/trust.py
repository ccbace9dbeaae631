"""Sections on how far to trust the finder: shuffled labels, halves of the facts, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.charts import bars_with_intervals, dot_intervals
from broca.report.figure import Figure
from broca.report.page import Section
from broca.report.relations.figures import CONTROLS
from broca.report.relations.tables import cells
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table

STABILITY = "relations.stability"
POOLING = "relations.pooling"


def _shuffled_figure(run: StoredRun) -> Figure:
    """Accuracy of every shuffle's set beside that of its matched random set."""
    words = {
        "before": "untouched",
        "shuffled": "set for shuffled labels off",
        "matched": "matched random off",
    }
    by_relation: dict[str, list] = {}
    for record in run.table(CONTROLS, "shuffled"):
        by_relation.setdefault(record["relation"], []).append(record)
    rows = []
    for relation, records in by_relation.items():
        for key, condition in words.items():
            values = [record[key] for record in records]
            rows.append(
                {
                    "group": relation,
                    "condition": condition,
                    "value": sum(values) / len(values),
                    "low": min(values),
                    "high": max(values),
                    "n": len(values),
                }
            )
    return dot_intervals(
        rows,
        title="Accuracy with sets found for shuffled labels off",
        caption="Mean over shuffles; lines from the lowest to the highest of them.",
        value_title="accuracy",
        percent=True,
        reference=None,
        name="shuffled-labels",
    )


def _bars(
    records: Sequence[Mapping[str, Any]],
    key: str,
    words: Mapping[str, str],
    *,
    title: str,
    caption: str,
    value_title: str,
    name: str,
) -> Figure:
    """Bars of several figures of each record, without intervals."""
    rows = [
        {
            "group": record[key],
            "condition": condition,
            "value": record[figure],
            "low": None,
            "high": None,
        }
        for record in records
        for figure, condition in words.items()
    ]
    return bars_with_intervals(
        rows, title=title, caption=caption, value_title=value_title, name=name
    )


def controls_section(run: StoredRun) -> Section:
    """Shuffled labels, and neurons asked for in other wordings."""
    shuffled = run.table(CONTROLS, "shuffled")
    templates = run.table(CONTROLS, "templates")
    figures, tables = [], []
    if shuffled:
        figures.append(_shuffled_figure(run))
        columns = [
            "relation",
            Column("shuffle", "d"),
            Column("untouched", "percent"),
            Column("set for shuffled labels off", "percent"),
            Column("matched random off", "percent"),
        ]
        keys = ("relation", "seed", "before", "shuffled", "matched")
        tables.append(Table(columns, cells(shuffled, keys), "Shuffled labels", folded=True))
    if templates:
        figures.append(
            _bars(
                templates,
                "relation",
                {
                    "ap_found": "wordings found with",
                    "ap_other": "other wordings",
                    "chance": "chance",
                },
                title="Average precision of the sets in other wordings",
                caption="Mean over the neurons of a set.",
                value_title="average precision",
                name="template-control",
            )
        )
        columns = [
            "relation",
            Column("AP, wordings found with", ".2f"),
            Column("AP, other wordings", ".2f"),
            Column("chance", ".2f"),
            Column("still in the top k", "percent"),
        ]
        keys = ("relation", "ap_found", "ap_other", "chance", "kept")
        tables.append(Table(columns, cells(templates, keys), "Template control"))
    return Section(
        "Controls of the finder",
        claim="Expertise belongs to the relation, not to the wording, and the pipeline "
        "manufactures nothing.",
        text=run.words(CONTROLS),
        figures=figures,
        tables=tables,
        notes=["The paper has neither control."],
    )


def stability_section(run: StoredRun) -> Section:
    """Halves of the facts."""
    columns = [
        "relation",
        Column("facts", "d"),
        Column("halves share", "percent"),
        Column("halves of different relations share", "percent"),
        Column("chance", ".2%"),
        Column("half and whole share", "percent"),
        Column("rank correlation", ".2f", "of the scores of all neurons between halves"),
        Column("loss, whole", "percent"),
        Column("loss, half", "percent"),
    ]
    keys = (
        *("relation", "facts", "shared", "shared_other", "chance", "with_whole"),
        *("rank_correlation", "drop_whole", "drop_half"),
    )
    return Section(
        "Stability of the sets",
        claim="Other facts of the same relation lead to the same neurons.",
        text=run.words(STABILITY),
        figures=[
            _bars(
                run.table(STABILITY, "relations"),
                "relation",
                {
                    "shared": "halves of one relation",
                    "shared_other": "halves of different relations",
                    "chance": "chance",
                },
                title="Neurons that sets found on two halves share",
                caption="Share of the set's neurons; no fact is in both halves.",
                value_title="share of neurons",
                name="halves",
            )
        ],
        tables=[
            Table(columns, cells(run.table(STABILITY, "relations"), keys), "Halves", name="halves")
        ],
        notes=["The paper does not report this."],
    )


def pooling_section(run: StoredRun) -> Section:
    """Ways of pooling."""
    columns = [
        "pooling",
        Column("mean AP of the sets", ".2f"),
        Column("shared with the default's", "percent"),
        *(Column(name, "percent") for name in ("own drop", "other drop", "matched random")),
        Column("loss of log P", ".2f"),
    ]
    keys = ("pooling", "ap", "shared", "own_drop", "other_drop", "matched_drop", "log_p_drop")
    return Section(
        "Pooling compared",
        claim="What is found depends on the tokens at which responses are read.",
        text=run.words(POOLING),
        figures=[
            _bars(
                run.table(POOLING, "poolings"),
                "pooling",
                {
                    "own_drop": "own relation",
                    "other_drop": "other relations",
                    "matched_drop": "matched random",
                },
                title="Loss of right answers by pooling",
                caption="acc_drop, means over relations; sets of equal size.",
                value_title="acc_drop",
                name="pooling",
            )
        ],
        tables=[
            Table(
                columns,
                cells(run.table(POOLING, "poolings"), keys),
                "Means over relations",
                name="pooling",
            )
        ],
        notes=["The paper takes the mean over all tokens, BOS included."],
    )
