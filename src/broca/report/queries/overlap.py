"""How many neurons two fields have in common."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.fields import P_HELP, SHUFFLED_HELP, beside_paper, file_name, spread
from broca.report.parts.figure import Figure
from broca.report.parts.heatmaps import annotated_heatmap
from broca.report.parts.outcomes import grouping
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.stored_run import StoredRun


def overlap_section(run: StoredRun, study: str) -> Section:
    """The matrix with its chance level."""
    by = grouping(study)
    shown = bool(run.table(study, "pairs"))
    return Section(
        f"What {by}s share",
        f"The neurons of a {by} are its own: two {by}s share few of them.",
        run.words(study),
        figures=[_overlap_figure(run, study)] if shown else [],
        tables=[
            _pairs_table(run, study),
            _sets_table(run, study),
            beside_paper(run, study),
        ]
        if shown
        else [],
        notes=[
            "How much two sets share depends on how many queries they come from: the published "
            "range stands for scale, the shuffled one is the comparison.",
        ],
        changes="Two fields differ where they share surely fewer neurons than with fields dealt "
        "at random. More queries per field sharpen the test.",
    )


def _overlap_figure(run: StoredRun, study: str) -> Figure:
    names = [record["field"] for record in run.table(study, "sets")]
    place = {name: i for i, name in enumerate(names)}
    values: list[list[float | None]] = [[None] * len(names) for _ in names]
    tips = [[name for _ in names] for name in names]
    outline = []
    alpha = run.setting("queries", "alpha", 0.05)
    for pair in run.table(study, "pairs"):
        a, b = place[pair["a"]], place[pair["b"]]
        values[b][a], values[a][b] = pair["overlap"], pair["shuffled"]
        found = f"{pair['a']} · {pair['b']}: {pair['shared']} shared, {pair['overlap']:.1%}"
        tips[b][a] = f"{found} (p = {pair['p_holm']:.2g}, Holm)"
        tips[a][b] = f"{pair['a']} · {pair['b']}, shuffled: {pair['shuffled']:.1%}"
        outline += [(b, a)] if pair["p_holm"] < alpha else []
    return annotated_heatmap(
        values,
        names,
        names,
        title=f"Shared neurons of two {grouping(study)}s",
        caption="Share of the smaller set. Below the diagonal as found, framed where it differs "
        f"from shuffled {grouping(study)}s (Holm); above it the median of the shuffled ones.",
        centre=None,
        limit=1.0,
        text="{:.0%}".format,
        tips=tips,
        outline=outline,
        name=file_name(study),
    )


def _pairs_table(run: StoredRun, study: str) -> Table:
    columns = [
        "a",
        "b",
        Column("neurons a", "d"),
        Column("neurons b", "d"),
        Column("shared", "d"),
        Column("of the smaller", "percent"),
        Column("shuffled", "percent", SHUFFLED_HELP),
        Column("p (Holm)", "p", f"{P_HELP}, two-sided"),
        Column("Jaccard", ".3f"),
        Column("Jaccard, shuffled", ".3f", "median"),
        Column("random neurons", "percent", "of the smaller, two random sets of these sizes"),
    ]
    rows = [
        (
            *(pair[key] for key in ("a", "b", "n_a", "n_b", "shared", "overlap")),
            spread(pair | {"n": pair["shared"]}, "shuffled"),
            *(pair[key] for key in ("p_holm", "jaccard", "jaccard_shuffled", "random")),
        )
        for pair in run.table(study, "pairs")
    ]
    return Table(columns, rows, f"Every two {grouping(study)}s", name=file_name(study))


def _sets_table(run: StoredRun, study: str) -> Table:
    columns = [grouping(study), Column("queries", "d"), Column("neurons", "d")]
    rows = [(r["field"], r["queries"], r["neurons"]) for r in run.table(study, "sets")]
    caption = f"Neurons of all queries of a {grouping(study)} together"
    return Table(columns, rows, caption, folded=True, name=f"{file_name(study)}-sets")


REPORT = StudyReport(lambda run, study: [overlap_section(run, study)])
