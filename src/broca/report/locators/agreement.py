"""Numbers of locators against the exact effect of single neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from broca.estimates import judge_agreement
from broca.report.locators.tables import locator_table, spread
from broca.report.page import Answer, Section
from broca.report.parts.charts import layer_lines
from broca.report.parts.figure import Figure
from broca.report.parts.points import points_with_axes
from broca.report.parts.study import StudyReport
from broca.report.parts.verdicts import answer
from broca.report.stored_run import StoredRun

SHOWN = ("ig", "gradient-activation", "hard-concrete", "activation")


def agreement_sections(run: StoredRun, study: str) -> list[Section]:
    """Table, scatter of one prompt, correlation by layer."""
    records = run.table(study, "locators")
    about = run.table(study, "about")[0]
    text = [
        *run.words(study),
        f"{about['n_known']} of the {about['n_prompts']} prompts begin their answer with the "
        "model's own likeliest token.",
    ]
    return [
        Section(
            "Against the exact effect of every neuron",
            "Gradients, integrals and correlations stand for what a neuron does; the exact effect "
            "is what it does.",
            text,
            figures=[_scatter(run, study), _layers(run, study)],
            tables=[
                locator_table(
                    records,
                    {
                        "spearman": "Spearman",
                        "pearson": "Pearson",
                        "recall": f"recall@{about['top']}",
                    },
                    "Agreement with the loss of log P when the neuron alone is set to 0 at the "
                    "last position; means over prompts",
                    "locators-agreement",
                )
            ],
            notes=[
                "Average precision, mean difference and firing read no answer: they can agree "
                "with the effect on one prompt only by chance."
            ],
            changes="Yes: rank correlation and recall both surely above one half. No: both surely "
            "below. More prompts (n_prompts) narrow the intervals, and decide between locators "
            "that cannot be told apart.",
        )
    ]


def _scatter(run: StoredRun, study: str) -> Figure:
    about, points = run.table(study, "about")[0], run.table(study, "scatter")
    titles = {r["locator"]: r["title"] for r in run.table(study, "locators")}
    rows: list[dict[str, Any]] = [
        {
            "panel": titles[name],
            "x": point[name] / (max(abs(p[name]) for p in points) or 1.0),
            "y": point["loss"],
            "layer": point["layer"],
        }
        for name in SHOWN
        if name in titles
        for point in points
    ]
    return points_with_axes(
        rows,
        title="Attribution against exact effect, neuron by neuron",
        caption=f"The prompt {about['prompt']!r} with the answer {about['answer']!r}: what each "
        "neuron gets from a locator (as a share of its largest), against what the answer loses in "
        "log P without it. The neurons of the largest effects and a random sample of the others.",
        x_title="locator's number / its largest",
        y_title="loss of log P",
        name="attribution-against-effect",
    )


def _layers(run: StoredRun, study: str) -> Figure:
    rows = [
        {"series": r["title"], "layer": r["layer"], "value": r["spearman"]}
        for r in run.table(study, "layers")
        if r["locator"] in (*SHOWN, "slimming", "direct")
    ]
    return layer_lines(
        rows,
        title="Agreement by layer",
        caption="Spearman's correlation with the exact loss within each layer, mean over prompts.",
        value_title="Spearman within the layer",
        name="agreement-by-layer",
    )


def agreement_answers(run: StoredRun, study: str) -> list[Answer]:
    """Whether the locator that others are compared with tells what single neurons do."""
    records = {r["locator"]: r for r in run.table(study, "locators")}
    reference = records[run.setting("locators", "reference", "ig")]
    top = run.table(study, "about")[0]["top"]
    sentence = (
        f"Rank correlation with the exact effects {_told(reference, 'spearman', '.2f')}, "
        f"{_told(reference, 'recall', '.0%')} of the {top} largest found"
    )
    if "random" in records:
        sentence += f"; random numbers find {_told(records['random'], 'recall', '.0%')}"
    others = [r for n, r in records.items() if n not in ("exact", "random", reference["locator"])]
    if others:
        best = max(others, key=lambda r: r["recall"])
        sentence += f"; of the others {best['title']} most, {_told(best, 'recall', '.0%')}"
    ends = [(spread(reference, n).low, spread(reference, n).high) for n in ("spearman", "recall")]
    return [
        answer(
            f"Does {reference['title']} tell what single neurons do?",
            judge_agreement(*ends),
            f"{sentence} (means over {reference['n']} prompts).",
        )
    ]


def _told(record: Mapping[str, Any], figure: str, form: str) -> str:
    found = spread(record, figure)
    if math.isnan(found.low) or math.isnan(found.high):
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


REPORT = StudyReport(
    agreement_sections, answers=agreement_answers, pictures=lambda r, s: [_scatter(r, s)]
)
