"""Frequency of facts kept and lost."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import bars_with_intervals
from broca.report.parts.figure import Figure
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.stored_run import StoredRun

RESILIENCE = "relations.resilience"


def resilience_section(run: StoredRun) -> Section:
    """Frequency of facts kept and lost."""
    columns = {
        "relation": "relation",
        "resilient": Column("kept", "d", "right before and after"),
        "sensitive": Column("lost", "d", "right before only"),
        "frequency_resilient": Column("frequency of kept", ".1f"),
        "frequency_sensitive": Column("frequency of lost", ".1f"),
        "difference": Column("difference", "percent", "(lost − kept) / kept"),
    }
    bands = {"quarter": Column("quarter", "d", "1 the rarest"), "facts": Column("facts", "d")}
    quarters = records_table(
        run.table(RESILIENCE, "bands"),
        {**bands, **percents(resilient="kept")},
        "Facts by quarter of frequency within their relation",
        name="quarters",
    )
    p = run.summary["resilience.p_relations"]
    here = "could not be tested" if p is None else "p < .001" if p < 0.001 else f"p = {p:.3f}"
    return Section(
        "Resilience: facts seen often",
        claim="Facts that survive are those seen more often in training.",
        text=run.words(RESILIENCE),
        figures=_quarters_figures(run),
        tables=[
            records_table(run.table(RESILIENCE, "relations"), columns, "Relations"),
            quarters,
        ],
        notes=[
            "Wilcoxon over relations: p = .11 for the paper's Llama-2-7B, .03 for 13B; here "
            f"{here}."
        ],
        changes="More facts with known frequencies: over relations the test has as many "
        "observations as there are relations.",
    )


def _quarters_figures(run: StoredRun) -> list[Figure]:
    """Facts kept, by how often they were seen."""
    ends = {1: " (rarest)", 4: " (most frequent)"}
    rows = [
        {
            "group": f"quarter {r['quarter']}{ends.get(r['quarter'], '')}",
            "condition": "kept with own neurons off",
            "value": r["resilient"],
            "low": None,
            "high": None,
            "n": r["facts"],
        }
        for r in run.table(RESILIENCE, "bands")
    ]
    if not rows:
        return []
    return [
        bars_with_intervals(
            rows,
            title="Facts kept, by frequency",
            caption="Share of the facts right before that stay right with the own neurons off, by "
            "quarter of frequency within their relation.",
            value_title="share kept",
            name="kept-by-frequency",
        )
    ]


REPORT = StudyReport(lambda run, study: [resilience_section(run)])
