"""Charts that are grids of coloured cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from broca.report.parts.charts import finite
from broca.report.parts.figure import TIP, Figure, clean
from broca.report.parts.theme import DARK_TEXT, DIVERGING, GRID, INK, LIGHT_TEXT, SEQUENTIAL, WIDTH

Matrix = Sequence[Sequence[float | None]]


def annotated_heatmap(
    values: Matrix,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str,
    caption: str,
    row_title: str = "",
    column_title: str = "",
    centre: float | None = 0.0,
    limit: float | None = None,
    text: Callable[[float], str] = "{:.2f}".format,
    tips: Sequence[Sequence[str]] | None = None,
    outline: Sequence[tuple[int, int]] | None = None,
    name: str = "",
) -> Figure:
    """A matrix with its numbers written into the cells.

    Args:
        values: [row, column]; None or NaN where undefined (an empty cell with a dash).
        row_labels: One per row.
        column_labels: One per column, written slanted above.
        title: The figure's title.
        caption: How to read it, above all what red and blue mean.
        row_title: What rows are.
        column_title: What columns are.
        centre: The value without colour, red above and blue below; None for one colour from
            the smallest value up.
        limit: Distance from the centre (or value) at which colour is full; by default the largest.
        text: How a number is written into its cell.
        tips: More about each cell, shown as a tooltip; by default the labels and the number.
        outline: Cells to frame, such as the diagonal.
        name: File name of the figure.
    """
    rows, columns = (
        [clean(label) for label in row_labels],
        [clean(label) for label in column_labels],
    )
    known = [value for line in values for value in map(finite, line) if value is not None]
    middle, span = _colour_range(known, centre, limit)
    framed = set(outline or ())
    data = []
    for i, line in enumerate(values):
        for j, each in enumerate(line):
            value = finite(each)
            words = "–" if value is None else _signed(text(value))
            more = tips[i][j] if tips is not None else f"{rows[i]} · {columns[j]}: {words}"
            strength = 0.0 if value is None else abs(value - middle) / span
            data.append(
                {
                    "row": i,
                    "column": j,
                    "value": value,
                    "text": words,
                    "strong": strength > 0.62,
                    "frame": (i, j) in framed,
                    "tip": TIP + clean(more),
                }
            )
    low = middle if centre is None else middle - span
    scale = scale_of(low, middle + span, SEQUENTIAL if centre is None else DIVERGING)
    chart = _cells(data, rows, columns, row_title, column_title, scale)
    return Figure(title, caption, chart, name, heat=True)


def _signed(text: str) -> str:
    """A written number with a true minus sign, and none before a zero."""
    return text.replace("-", "−") if any(sign in "123456789" for sign in text) else text.strip("+-")


def _colour_range(
    known: Sequence[float], centre: float | None, limit: float | None
) -> tuple[float, float]:
    """The value without colour and the distance from it to full colour."""
    middle = min([*known, 0.0]) if centre is None else centre
    largest = max((abs(value - middle) for value in known), default=0.0)
    return middle, (limit - (middle if centre is None else 0) if limit else largest) or 1.0


def scale_of(low: float, high: float, tones: Sequence[str]) -> alt.Scale:
    """Colours at even steps between two values."""
    steps = [low + (high - low) * i / (len(tones) - 1) for i in range(len(tones))]
    return alt.Scale(domain=steps, range=list(tones), clamp=True, interpolate="rgb")


def _cells(
    data: list[dict[str, Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
    scale: alt.Scale,
) -> Any:
    # Positions are numbers and labels expressions: two rows may carry the same label.
    y = alt.Y("row:O", title=row_title or None, axis=alt.Axis(labelExpr=labels_of(rows)))
    x = alt.X(
        "column:O",
        title=column_title or None,
        axis=alt.Axis(labelExpr=labels_of(columns), orient="top", labelAngle=-40, ticks=False),
    )
    base = alt.Chart(alt.InlineData(values=data)).encode(x=x, y=y)
    edge = {"stroke": "#ffffff", "strokeOpacity": 0.35}
    empty = base.transform_filter("!isValid(datum.value)").mark_rect(color="#d5d8de", **edge)
    known = base.transform_filter("isValid(datum.value)").mark_rect(**edge)
    colour = alt.Color("value:Q", scale=scale, legend=None)
    frames = base.transform_filter("datum.frame").mark_rect(
        filled=False, stroke=INK, strokeWidth=1.6, aria=False
    )
    words = base.mark_text(aria=False).encode(
        text="text:N",
        color=alt.condition("datum.strong", alt.value(LIGHT_TEXT), alt.value(DARK_TEXT)),
    )
    longest = max((len(row["text"]) for row in data), default=1)
    width = len(columns) * max(34, min(7 * longest + 14, 76))
    layers = (
        empty.encode(description="tip:N"),
        known.encode(color=colour, description="tip:N"),
        frames,
        words,
    )
    return alt.layer(*layers).properties(width=width, height=len(rows) * 30)


def labels_of(names: Sequence[str]) -> str:
    """An expression that writes names where an axis counts from 0."""
    quoted = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return f"[{quoted}][datum.value]".replace("\n", " ")


def overlap_heatmap(
    counts: Matrix,
    labels: Sequence[str],
    *,
    title: str,
    caption: str,
    sizes: Sequence[int],
    expected: Matrix | None = None,
    name: str = "",
) -> Figure:
    """How many neurons each two sets share, coloured by the share of the smaller set.

    Args:
        counts: [set, set] shared neurons; the diagonal is not shown.
        labels: One per set.
        title: The figure's title.
        caption: How to read it.
        sizes: Neurons per set.
        expected: [set, set] shared neurons expected by chance, for the tooltips.
        name: File name of the figure.
    """
    shares: list[list[float | None]] = []
    tips: list[list[str]] = []
    for i, line in enumerate(counts):
        smaller = [min(sizes[i], size) or 1 for size in sizes]
        shares.append([None if i == j or n is None else n / smaller[j] for j, n in enumerate(line)])
        by_chance = expected[i] if expected else [None] * len(line)
        chance = [
            "" if n is None else f", by chance {n / smaller[j]:.0%}"
            for j, n in enumerate(by_chance)
        ]
        tips.append(
            [
                f"{labels[i]} · {labels[j]}: {n} of {smaller[j]} shared{chance[j]}"
                for j, n in enumerate(line)
            ]
        )
    return annotated_heatmap(
        shares,
        labels,
        labels,
        title=title,
        caption=caption,
        centre=None,
        text="{:.0%}".format,
        tips=tips,
        name=name,
    )


def layer_index_map(
    maps: Mapping[str, Matrix],
    *,
    title: str,
    caption: str,
    n_neurons: int,
    name: str = "",
) -> Figure:
    """Where in the layers the score of a field sits: layers × neuron index, summed in bins.

    Args:
        maps: Field to [layer, bin] sums of scores, all of one shape, none negative.
        title: The figure's title.
        caption: How to read it.
        n_neurons: Neurons per layer, for the axis.
        name: File name of the figure.
    """
    n_layers = max((len(grid) for grid in maps.values()), default=1)
    n_bins = max((len(line) for grid in maps.values() for line in grid), default=1)
    width = n_neurons / n_bins
    data = [
        {
            "panel": clean(field),
            "layer": layer,
            "top": layer + 1,
            "start": i * width,
            "end": (i + 1) * width,
            # Scores are steep: the square root shows the weak cells beside the strong.
            "shade": math.sqrt(value),
            "tip": f"{TIP}{clean(field)} · layer {layer} · neurons {int(i * width)} to "
            f"{int((i + 1) * width) - 1}: {value:.4g}",
        }
        for field, grid in maps.items()
        for layer, line in enumerate(grid)
        for i, value in enumerate(line)
        if value is not None and value > 0
    ]
    largest = max((row["shade"] for row in data), default=1.0)
    columns = 1 if len(maps) == 1 else 2
    step = max(1, n_layers // 8)
    x = alt.X(
        "start:Q",
        title="neuron",
        scale=alt.Scale(domain=[0, n_neurons], nice=False),
        axis=alt.Axis(grid=False, tickCount=4, format=",d"),
    )
    y = alt.Y(
        "layer:Q",
        title="layer",
        scale=alt.Scale(domain=[0, n_layers], nice=False),
        axis=alt.Axis(grid=False, values=list(range(0, n_layers, step))),
    )
    colour = alt.Color("shade:Q", scale=scale_of(0, largest, SEQUENTIAL[1:]), legend=None)
    cells = (
        alt.Chart()
        .mark_rect()
        .encode(x=x, x2="end:Q", y=y, y2="top:Q", color=colour, description="tip:N")
        .properties(
            width=WIDTH if columns == 1 else WIDTH // 2,
            height=max(110, min(260, 6 * n_layers)),
            view=alt.ViewBackground(stroke=GRID, fill=SEQUENTIAL[0]),
        )
    )
    facet = alt.Facet("panel:N", sort=[clean(field) for field in maps], title=None)
    chart = cells.facet(facet=facet, columns=columns, data=alt.InlineData(values=data))
    return Figure(title, caption, chart, name, heat=True)
