"""Recall of value vectors into which a fact was put."""

from __future__ import annotations

from broca.report.locators.tables import DRAWN, locator_table
from broca.report.page import Answer, Section
from broca.report.parts.charts import ladder_lines
from broca.report.parts.figure import Figure
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, records_table
from broca.report.parts.verdicts import MARGIN, answer, judge_record, points_of, together
from broca.report.stored_run import StoredRun


def injection_sections(run: StoredRun, study: str) -> list[Section]:
    """Recall curves, the table beside published figures, the facts."""
    records = run.table(study, "locators")
    shares = run.setting("locators", "recall_shares")
    figures = {
        f"{kind}_{n}": f"{share:.0%} {where}"
        for kind, where in (("layer", "of each layer"), ("global", "of all"))
        for n, share in enumerate(shares)
    }
    published = [key for key in records[0] if key.startswith("published")]
    facts = run.table(study, "facts")
    columns = {
        "text": "text",
        "loss_before": Column("loss before", ".2f"),
        "loss": Column("loss", ".3f"),
        "n_steps": Column("steps", "d"),
        "known": "known",
    }

    return [
        Section(
            "Facts put into a few value vectors",
            "Learned masks find the value vectors into which a fact was put best, integrated "
            "gradients and zero-out less, activations hardly (arXiv 2311.09060).",
            run.words(study),
            figures=[_curves(run, study)],
            tables=[
                locator_table(
                    records,
                    figures,
                    "Recall of the value vectors trained on a new fact; means over facts. "
                    "Published: the first 1 % of each layer",
                    "locators-injection",
                    beside={key: key for key in published},
                ),
                records_table(facts, columns, "The facts", folded=True, name="injected"),
            ],
            notes=[
                "The published figures are those of whole sentences in GPT-2 and Pythia; here the "
                "answer's tokens alone are trained and read. Masks act at every position, as "
                "published; the other locators read the last one, but for the one named so.",
            ],
            changes="More injected facts: intervals are over facts. Another optimiser than Adam "
            "moves other vectors, and may order locators otherwise.",
        )
    ]


def _curves(run: StoredRun, study: str) -> Figure:
    where = {"layer": "first share of every layer", "global": "first share of all neurons"}
    rows = [
        {**r, "series": r["title"], "panel": where[r["kind"]], "k": 100 * r["share"]}
        for r in run.table(study, "curves")
        if r["locator"] in DRAWN
    ]
    return ladder_lines(
        rows,
        title="Recall of injected facts",
        caption="Share of the trained value vectors among a locator's first neurons. Bands are "
        "95 % intervals over facts.",
        value_title="recall",
        k_title="share of the neurons looked at, %",
        name="recall-curves",
    )


def injection_answers(run: StoredRun, study: str) -> list[Answer]:
    """Whether masks beat integrated gradients."""
    records = {r["locator"]: r for r in run.table(study, "locators")}
    reference = records[run.setting("locators", "reference", "ig")]
    masks = [records[name] for name in ("hard-concrete", "slimming") if name in records]
    if not masks:
        return []
    share = run.setting("locators", "recall_shares")[0]
    gaps = "; ".join(
        f"{mask['title']} {mask['global_0']:.0%}, "
        + points_of(*(mask[f"global_0_gap{end}"] for end in ("", "_low", "_high")))
        for mask in masks
    )
    return [
        answer(
            f"Do learned masks find injected facts better than {reference['title']}?",
            together([judge_record(mask, "global_0_gap") for mask in masks]),
            f"Recall among the first {share:.0%} of all neurons, and beyond {reference['title']} "
            f"with its {reference['global_0']:.0%}: {gaps} (n = {reference['n']} facts). "
            f"{MARGIN:.0%} is the smallest difference of interest.",
        )
    ]


REPORT = StudyReport(injection_sections, answers=injection_answers)
