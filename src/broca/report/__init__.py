"""Reports: tables, figures and the page, made from stored rows and figures only."""

from __future__ import annotations

from broca.report.page import Answer, PageHeader, Section, build_page
from broca.report.parts.charts import (
    bars_with_intervals,
    dot_intervals,
    histogram,
    ladder_lines,
    layer_lines,
    neurons_per_layer_and_site,
    scatter_embedding,
)
from broca.report.parts.figure import Figure, save_figures
from broca.report.parts.heatmaps import annotated_heatmap, layer_index_map, overlap_heatmap
from broca.report.parts.tables import Column, Table, as_csv, as_rich, settings_table

__all__ = [
    "Answer",
    "Column",
    "Figure",
    "PageHeader",
    "Section",
    "Table",
    "annotated_heatmap",
    "as_csv",
    "as_rich",
    "bars_with_intervals",
    "build_page",
    "dot_intervals",
    "histogram",
    "ladder_lines",
    "layer_index_map",
    "layer_lines",
    "neurons_per_layer_and_site",
    "overlap_heatmap",
    "save_figures",
    "scatter_embedding",
    "settings_table",
]
