"""Colours and type of every chart, in one place.

Ink, muted and grid are exact values that the page's style sheet knows and replaces in dark mode;
the other colours read well on white and on near-black.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

INK, MUTED, GRID = "#1d2433", "#667085", "#e3e6ec"
GREY, BLUE, AMBER, RED = "#8d97a6", "#4c9bd6", "#e0a030", "#d1495b"
PALETTE = (BLUE, RED, AMBER, "#3fa07a", "#9a6fb8", GREY, "#b5763f", "#3fb8b8", "#d97fb0", "#7f8f2f")
DIVERGING = ("#2a6fb0", "#9cc3e4", "#f6f5f2", "#eda58f", "#b8323f")
SEQUENTIAL = ("#f6f5f2", "#c9dcee", "#7fb1dc", "#3b7fbd", "#164a80")
LIGHT_TEXT, DARK_TEXT = "#ffffff", "#22252b"
"""Text inside coloured cells: unlike ink it stays as it is in dark mode."""

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
WIDTH = 680
"""Plot width in pixels of a chart that fills the page, labels not counted."""

NARROW = 330
"""The same of a picture on the first screen."""

# What a condition is called decides its colour, so that it is the same in every chart.
_BY_MEANING = {
    "untouched": GREY,
    "uniform": "#a9cbe8",
    "matched": BLUE,
    "own": RED,
    "shuffled": AMBER,
    "related": RED,
    "unrelated": BLUE,
}


def colours(names: Sequence[str]) -> list[str]:
    """A colour per name: by meaning where its first word has one, else from the palette."""
    found = [_BY_MEANING.get(name.lower().split()[0] if name.split() else "") for name in names]
    spare = iter([colour for colour in PALETTE if colour not in found] * len(names))
    return [colour or next(spare) for colour in found]


def vega_config() -> dict[str, Any]:
    """The Vega-Lite configuration shared by all charts."""
    labels = {"labelColor": INK, "titleColor": MUTED, "labelFontSize": 12, "titleFontSize": 12}
    axis = {"domainColor": GRID, "gridColor": GRID, "tickColor": GRID, "titleFontWeight": "normal"}
    return {
        "font": FONT,
        "background": "white",
        "padding": 6,
        "view": {"stroke": None},
        "axis": {**labels, **axis, "labelLimit": 260, "titlePadding": 10, "labelPadding": 6},
        "axisX": {"labelFlush": False},
        "axisY": {"ticks": False, "domain": False},
        "legend": {
            **labels,
            "orient": "top",
            "title": None,
            "symbolType": "square",
            "symbolOpacity": 1,
            "labelLimit": 300,
            "columnPadding": 18,
        },
        "header": {
            "labelColor": INK,
            "titleColor": MUTED,
            "labelFontSize": 12,
            "labelFontWeight": "bold",
            "labelPadding": 6,
            "title": None,
        },
        "title": {"color": INK, "subtitleColor": MUTED},
        "text": {"fontSize": 11, "color": INK},
        "rule": {"color": INK},
    }
