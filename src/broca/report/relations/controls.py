"""Shuffled labels, and neurons asked for in other wordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.report.page import Answer, Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.charts import dot_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells, percents, records_table
from broca.report.parts.verdicts import MARGIN, answer, points_of
from broca.report.stored_run import StoredRun

CONTROLS = "relations.controls"


def _control_answer(figures: Mapping[str, Any]) -> Answer:
    question = "Does it find nothing where there is nothing?"
    name = "controls.shuffled_beyond_matched"
    beyond, low, high = (figures.get(name + end) for end in ("", "_low", "_high"))
    if beyond is None:
        return answer(question, "cannot tell", "Sets for shuffled labels were not tried.")
    sentence = (
        f"Sets found for shuffled labels cost {points_of(beyond, low, high)} of accuracy more "
        f"than matched random sets; up to {100 * MARGIN:g} points are taken for nothing."
    )
    if low is None or high is None or figures.get("effect.relations_tested") == 0:
        return answer(question, "cannot tell", sentence)
    if low > MARGIN:
        return answer(question, "no", sentence)
    return answer(question, "yes" if high < MARGIN else "not shown", sentence)


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


def _cross_table(run: StoredRun) -> Table:
    reading = "mean standardised response of the relation's neurons"
    columns = [
        "relation",
        "partner",
        Column("own wording, own subject", ".2f", reading),
        Column("own wording, other subject", ".2f", reading),
        Column("other wording, own subject", ".2f", reading),
        Column("other wording, other subject", ".2f", reading),
        Column("the wording's share", "percent", "of the effects of wording and subject"),
    ]
    keys = ("relation", "partner", "own_own", "own_wording", "own_subject", "neither")
    rows = cells(run.table(CONTROLS, "cross"), (*keys, "wording_share"))
    return Table(columns, rows, "Wording × subject", name="wording-subject")


def controls_section(run: StoredRun) -> Section:
    """Shuffled labels, and neurons asked for in other wordings."""
    shuffled = run.table(CONTROLS, "shuffled")
    templates = run.table(CONTROLS, "templates")
    figures, tables = [], []
    if shuffled:
        figures.append(_shuffled_figure(run))
        columns = {
            "relation": "relation",
            "seed": Column("shuffle", "d"),
            **percents(
                before="untouched",
                shuffled="set for shuffled labels off",
                matched="matched random off",
            ),
        }

        tables.append(records_table(shuffled, columns, "Shuffled labels", folded=True))
    if templates:
        figures.append(
            plain_bars(
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
            Column("content words shared", ".2f", "(AP − chance) / (1 − chance), other wordings"),
            Column("none shared", ".2f", "(AP − chance) / (1 − chance), other wordings"),
            Column("still in the top k", "percent"),
        ]
        keys = ("ap_found", "ap_other", "chance", "above_alike", "above_apart", "kept")
        rows = [(r["relation"], *(r.get(key) for key in keys)) for r in templates]
        tables.append(Table(columns, rows, "Template control"))
    if run.table(CONTROLS, "cross"):
        tables.append(_cross_table(run))
    return Section(
        "Controls of the finder",
        claim="Expertise belongs to the relation, not to the wording, and the pipeline "
        "manufactures nothing.",
        text=run.words(CONTROLS),
        figures=figures,
        tables=tables,
        notes=["The paper has neither control."],
        changes="Yes: sets for shuffled labels surely cost less than 5 points more than matched "
        "random sets. More shuffles narrow the interval.",
    )


REPORT = StudyReport(
    lambda run, study: [controls_section(run)],
    answers=lambda run, study: [_control_answer(run.summary)],
)
