"""Queries by their neurons."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import dot_intervals, scatter_embedding
from broca.report.parts.fields import P_HELP, SHUFFLED_HELP, file_name, found_and_shuffled, spread
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import grouping
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.stored_run import StoredRun

MOST_SHAPES = 6  # that can be told apart


def embedding_section(run: StoredRun, study: str) -> Section:
    """The picture, and the separation in the full space."""
    by = grouping(study)
    shown = bool(run.table(study, "separation"))
    figures = []
    if shown:
        colours = ("language", "field") if by == "language" else ("field",)
        figures = [_points_figure(run, study, colour) for colour in colours]
        figures.append(_separation_figure(run, study))
    return Section(
        f"Queries by their neurons, by {by}",
        f"Queries of one {by} use similar neurons, and lie apart from those of others.",
        run.words(study),
        figures=figures,
        tables=[_separation_table(run, study)] if shown else [],
        notes=[
            "The picture is t-SNE: near points are similar, far distances and the size of groups "
            "mean nothing. Every figure is computed in the space of all neurons.",
        ],
        changes="Queries of one field no nearer to each other than with fields dealt at random "
        "would take it back; more queries per field sharpen the test.",
    )


def _points_figure(run: StoredRun, study: str, colour: str) -> Figure:
    points = run.table(study, "points")
    shaped = colour == "field" and 1 < len({point["language"] for point in points}) <= MOST_SHAPES
    rows = [
        {
            "x": point["x"],
            "y": point["y"],
            "colour": point[colour],
            "shape": point["language"] if shaped else "",
            "label": point["query"],
        }
        for point in points
    ]
    return scatter_embedding(
        rows,
        title=f"Queries, coloured by {colour}",
        caption="Every point is a query, placed by the scores of its neurons (t-SNE of cosine "
        "distances)" + ("; its shape is its language." if shaped else "."),
        name=f"{file_name(study)}-{colour}",
    )


def _separation_figure(run: StoredRun, study: str) -> Figure:
    records = run.table(study, "separation")
    return dot_intervals(
        [row for record in records for row in found_and_shuffled(record, "silhouette")],
        title="Separation",
        caption="Silhouette in the space of all neurons: 1 is far apart, 0 as near to the next "
        f"{grouping(study)} as to the own. Shuffled: median, and where 95 % of the shuffles lie.",
        value_title="silhouette",
        name=f"{file_name(study)}-separation",
    )


def _separation_table(run: StoredRun, study: str) -> Table:
    columns = [
        grouping(study),
        Column("queries", "d"),
        Column("silhouette", ".3f"),
        Column("shuffled", ".3f", SHUFFLED_HELP),
        Column("p", "p"),
        Column("p (Holm)", "p", P_HELP),
    ]
    rows = [
        (
            *(record["field"], record["n"], record["silhouette"], spread(record, "shuffled")),
            *(record["p"], record.get("p_holm")),
        )
        for record in run.table(study, "separation")
    ]
    return Table(columns, rows, "Separation in the space of all neurons", name=file_name(study))


REPORT = StudyReport(lambda run, study: [embedding_section(run, study)])
