"""Charts with axes: bars, dots, lines, points. Plain rows in, a figure out.

Rows are mappings; the keys each maker reads are named in its docstring. Instead of `value`, `low`
and `high` (and `n`) a row may hold an `estimate` with attributes of these names. The order of
groups, conditions and panels is the order in which they first come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from broca.report.parts.figure import TIP, Figure, clean
from broca.report.parts.theme import INK, MUTED, WIDTH, colours

Rows = Iterable[Mapping[str, Any]]


def bars_with_intervals(
    rows: Rows,
    *,
    title: str,
    caption: str,
    value_title: str,
    percent: bool = True,
    width: int = WIDTH,
    name: str = "",
) -> Figure:
    """Groups of bars with intervals, such as accuracy per relation under four conditions.

    Args:
        rows: `group`, `condition`, `value`, `low`, `high`.
        title: The figure's title.
        caption: How to read it.
        value_title: What the value is.
        percent: Whether values are shares, written as percentages.
        width: Plot width in pixels; about 330 for a picture of the first screen.
        name: File name of the figure.
    """
    data = plain_rows(rows, "group", "condition", percent=percent)
    groups, conditions = _distinct(data, "group"), _distinct(data, "condition")
    y = alt.Y("group:N", sort=groups, title=None, scale=alt.Scale(paddingInner=0.28))
    offset = alt.YOffset("condition:N", sort=conditions)
    x = alt.X("value:Q", title=value_title, axis=_axis(percent))
    base = alt.Chart(alt.InlineData(values=data)).encode(y=y, yOffset=offset)
    bars = base.mark_bar(cornerRadiusEnd=1).encode(
        x=x, color=_colour("condition", conditions), description="tip:N"
    )
    spans = base.mark_rule(strokeWidth=1.2, aria=False).encode(x=alt.X("low:Q"), x2="high:Q")
    height = len(groups) * (max(len(conditions), 2) * 9 + 8)
    return Figure(title, caption, _sized(alt.layer(bars, spans), width, height), name)


def dot_intervals(
    rows: Rows,
    *,
    title: str,
    caption: str,
    value_title: str,
    percent: bool = False,
    reference: float | None = 0.0,
    width: int = WIDTH,
    name: str = "",
) -> Figure:
    """Estimates as dots with intervals, such as methods by Related and Unrelated.

    Args:
        rows: `group`, `condition`, `value`, `low`, `high`, and `panel` for several plots.
        title: The figure's title.
        caption: How to read it.
        value_title: What the value is.
        percent: Whether values are shares, written as percentages.
        reference: Where to draw a vertical line, None for none.
        width: Plot width in pixels; about 330 for a picture of the first screen.
        name: File name of the figure.
    """
    data = plain_rows(rows, "panel", "group", "condition", percent=percent)
    groups, conditions = _distinct(data, "group"), _distinct(data, "condition")
    panels = _distinct(data, "panel")
    y = alt.Y("group:N", sort=groups, title=None, axis=alt.Axis(grid=True))
    offset = alt.YOffset("condition:N", sort=conditions, scale=alt.Scale(paddingOuter=0.6))
    colour = _colour("condition", conditions)
    x = alt.X("value:Q", title=value_title, axis=_axis(percent), scale=alt.Scale(zero=False))
    base = alt.Chart().encode(y=y, yOffset=offset, color=colour)
    spans = base.mark_rule(strokeWidth=2, opacity=0.75, aria=False).encode(x="low:Q", x2="high:Q")
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, description="tip:N")
    layers = [*_reference_layer(reference), spans, dots]
    height = len(groups) * (len(conditions) * 13 + 10)
    return Figure(title, caption, _panels(layers, data, panels, height, width, columns=2), name)


def _reference_layer(at: float | None) -> list[alt.Chart]:
    if at is None:
        return []
    line = alt.Chart().mark_rule(color=MUTED, strokeDash=[3, 3], aria=False)
    return [line.encode(x=alt.datum(at))]


def ladder_lines(
    rows: Rows,
    *,
    title: str,
    caption: str,
    value_title: str,
    k_title: str = "neurons switched off",
    percent: bool = True,
    width: int = WIDTH,
    name: str = "",
) -> Figure:
    """A measure over the number of neurons, on a logarithmic axis, with intervals as bands.

    Args:
        rows: `series`, `k` (above 0), `value`, `low`, `high`, and `panel` for several plots.
        title: The figure's title.
        caption: How to read it.
        value_title: What the value is.
        k_title: What `k` counts.
        percent: Whether values are shares, written as percentages.
        width: Plot width in pixels; about 330 for a picture of the first screen.
        name: File name of the figure.
    """
    data = plain_rows(rows, "panel", "series", percent=percent)
    series, panels = _distinct(data, "series"), _distinct(data, "panel")
    steps = sorted({row["k"] for row in data})
    axis = alt.Axis(values=steps, format=",d", labelOverlap="greedy", grid=False)
    x = alt.X("k:Q", title=k_title, scale=alt.Scale(type="log", nice=False), axis=axis)
    y = alt.Y("value:Q", title=value_title, axis=_axis(percent))
    base = alt.Chart().encode(x=x, color=_colour("series", series))
    band = base.mark_area(opacity=0.16, aria=False).encode(y=alt.Y("low:Q"), y2="high:Q")
    line = base.mark_line(strokeWidth=2, aria=False).encode(y=y)
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(y=y, description="tip:N")
    height = 300 if len(panels) == 1 else 120
    chart = _panels([band, line, dots], data, panels, height, width, columns=3)
    return Figure(title, caption, chart, name)


def neurons_per_layer_and_site(
    rows: Rows, *, title: str, caption: str, n_layers: int, name: str = ""
) -> Figure:
    """How many neurons of a set lie in which layer, stacked by site.

    Args:
        rows: `layer`, `site`, `count`, and `panel` (such as the relation) for several plots.
        title: The figure's title.
        caption: How to read it.
        n_layers: Number of layers of the model, so that empty ones are seen.
        name: File name of the figure.
    """
    data = plain_rows(({**row, "value": row["count"]} for row in rows), "panel", "site", "layer")
    sites, panels = _distinct(data, "site"), _distinct(data, "panel")
    step = max(1, n_layers // (16 if len(panels) == 1 else 4))
    axis = alt.Axis(values=list(range(0, n_layers, step)), labelAngle=0)
    x = alt.X("layer:O", title="layer", axis=axis, scale=alt.Scale(domain=list(range(n_layers))))
    y = alt.Y("count:Q", title="neurons", stack=True, axis=alt.Axis(tickCount=4))
    bars = (
        alt.Chart().mark_bar().encode(x=x, y=y, color=_colour("site", sites), description="tip:N")
    )
    height = 240 if len(panels) == 1 else 90
    return Figure(title, caption, _panels([bars], data, panels, height, WIDTH, columns=4), name)


def layer_lines(
    rows: Rows, *, title: str, caption: str, value_title: str, name: str = ""
) -> Figure:
    """A share over the layers, a line per series.

    Args:
        rows: `series`, `layer`, `value`.
        title: The figure's title.
        caption: How to read it.
        value_title: What the value is.
        name: File name of the figure.
    """
    data = plain_rows(rows, "series", "layer", percent=True)
    axis = alt.Axis(tickMinStep=1, format="d", grid=False)
    x = alt.X("layer:Q", title="layer", axis=axis, scale=alt.Scale(nice=False))
    y = alt.Y("value:Q", title=value_title, axis=_axis(True))
    base = alt.Chart(alt.InlineData(values=data)).encode(
        x=x, y=y, color=_colour("series", _distinct(data, "series"))
    )
    line = base.mark_line(strokeWidth=2, aria=False)
    dots = base.mark_point(filled=True, size=42, opacity=1).encode(description="tip:N")
    return Figure(title, caption, _sized(alt.layer(line, dots), WIDTH, 240), name)


def scatter_embedding(rows: Rows, *, title: str, caption: str, name: str = "") -> Figure:
    """Points on a plane without axes, such as queries by their neuron scores.

    Args:
        rows: `x`, `y`, `colour` (such as the field), `shape` (such as the language; may be
            missing) and `label`.
        title: The figure's title.
        caption: How to read it.
        name: File name of the figure.
    """
    data = plain_rows(rows, "colour", "shape", "label")
    tones, shapes = _distinct(data, "colour"), _distinct(data, "shape")
    bare = alt.Axis(labels=False, ticks=False, grid=False, title=None, domain=False)
    legend = alt.Legend(orient="right", symbolType="circle")
    points = (
        alt.Chart(alt.InlineData(values=data))
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=alt.X("x:Q", axis=bare, scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=bare, scale=alt.Scale(zero=False)),
            color=_colour("colour", tones, legend),
            description="tip:N",
        )
    )
    if len(shapes) > 1:
        marks = alt.Legend(orient="right", symbolFillColor=MUTED, symbolStrokeWidth=0)
        points = points.encode(shape=alt.Shape("shape:N", sort=shapes, legend=marks))
    return Figure(title, caption, _sized(points, 520, 420), name)


def histogram(
    values: Iterable[float],
    *,
    title: str,
    caption: str,
    value_title: str,
    bins: int = 30,
    references: Mapping[str, float] | None = None,
    name: str = "",
) -> Figure:
    """How often which value occurs, with named vertical lines.

    Args:
        values: The values; those that are not finite are left out.
        title: The figure's title.
        caption: How to read it.
        value_title: What the value is.
        bins: Number of bars.
        references: Name to position of lines.
        name: File name of the figure.
    """
    finite = [float(value) for value in values if math.isfinite(value)]
    data = _bins(finite, bins)
    layers = [
        alt.Chart(alt.InlineData(values=data))
        .mark_bar(color=colours(["matched"])[0], binSpacing=1)
        .encode(
            x=alt.X("start:Q", title=value_title, scale=alt.Scale(zero=False, nice=False)),
            x2="end:Q",
            y=alt.Y("count:Q", title="how often", axis=alt.Axis(tickMinStep=1)),
            y2=alt.datum(0),
            description="tip:N",
        )
    ]
    lines = [{"at": at, "what": clean(what)} for what, at in (references or {}).items()]
    if lines:
        base = alt.Chart(alt.InlineData(values=lines)).encode(x="at:Q")
        text = base.mark_text(align="left", dx=5, baseline="top", color=INK, aria=False)
        layers.append(base.mark_rule(strokeWidth=1.5, strokeDash=[4, 3], aria=False))
        layers.append(text.encode(text="what:N", y=alt.value(0)))
    return Figure(title, caption, _sized(alt.layer(*layers), WIDTH, 240), name)


def _bins(values: Sequence[float], bins: int) -> list[dict[str, Any]]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / width), bins - 1)] += 1
    edges = [low + width * i for i in range(bins + 1)]
    return [
        {
            "start": edges[i],
            "end": edges[i + 1],
            "count": count,
            "tip": f"{TIP}{edges[i]:.4g} to {edges[i + 1]:.4g}: {count}",
        }
        for i, count in enumerate(counts)
    ]


def plain_rows(rows: Rows, *names: str, percent: bool = False) -> list[dict[str, Any]]:
    """Rows as values that charts can hold: texts clean, numbers finite or None, with a tooltip.

    Args:
        rows: Mappings; an `estimate` in them is unpacked.
        names: Keys that hold names, missing ones becoming empty; all but "layer" become texts.
        percent: Whether the tooltip writes the value as a percentage.
    """
    data = []
    for row in rows:
        flat = dict(row)
        estimate = flat.pop("estimate", None)
        if estimate is not None:
            flat |= {key: getattr(estimate, key) for key in ("value", "low", "high", "n")}
        for key, value in flat.items():
            flat[key] = clean(value) if isinstance(value, str) else finite(value)
        flat |= {
            key: flat.get(key, "") if key == "layer" else str(flat.get(key, "")) for key in names
        }
        data.append(flat | {"tip": TIP + _tip(flat, names, percent)})
    return data


def finite(value: Any) -> float | int | None:
    """A number as Python's own; None where it is not finite or missing."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(value)


def number_text(value: float | None, percent: bool = False) -> str:
    """A number for a tooltip or a cell, an en dash where there is none."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def _tip(row: Mapping[str, Any], names: Sequence[str], percent: bool) -> str:
    where = " · ".join(
        f"layer {row[key]}" if key == "layer" else row[key] for key in names if row[key] != ""
    )
    if "k" in row:
        where += f" · k = {row['k']}"
    if "value" not in row:
        return where
    text = f"{where}: {number_text(row['value'], percent)}"
    if row.get("low") is not None and row.get("high") is not None:
        text += f" [{number_text(row['low'], percent)}, {number_text(row['high'], percent)}]"
    return text + (f", n = {row['n']}" if row.get("n") is not None else "")


def _distinct(data: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in data))


def _axis(percent: bool) -> alt.Axis:
    return alt.Axis(format="%", tickCount=6) if percent else alt.Axis(tickCount=6)


def _colour(key: str, names: Sequence[str], legend: alt.Legend | None = None) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=colours(names))
    shown = (legend or alt.Legend()) if len(names) > 1 or names[:1] not in ([""], []) else None
    return alt.Color(f"{key}:N", scale=scale, legend=shown)


def _panels(
    layers: Sequence[alt.Chart],
    data: Sequence[Mapping[str, Any]],
    panels: Sequence[str],
    height: int,
    width: int,
    columns: int,
) -> Any:
    """Layers over the same data, once per panel in a grid, or alone when there is one panel."""
    values = alt.InlineData(values=list(data))
    chart: Any = alt.layer(*layers) if len(layers) > 1 else layers[0]
    if len(panels) <= 1:
        return _sized(chart.properties(data=values), width, height)
    columns = min(columns, len(panels))
    each = (width + 110) // columns - 46
    facet = alt.Facet("panel:N", sort=list(panels), title=None)
    return (
        chart.properties(width=each, height=height)
        .facet(facet=facet, columns=columns, data=values)
        .properties(spacing={"row": 14, "column": 34})
    )


def _sized(chart: Any, width: int, height: int) -> Any:
    return chart.properties(width=width, height=max(height, 40))
