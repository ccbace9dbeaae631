"""Points with axes: one number against another, such as an attribution against an effect."""

from __future__ import annotations

import altair as alt

from broca.report.parts.charts import Rows, plain_rows
from broca.report.parts.figure import Figure
from broca.report.parts.theme import MUTED

_LINEAR = 1e-3  # up to about there axes are linear, beyond it logarithmic


def points_with_axes(
    rows: Rows,
    *,
    title: str,
    caption: str,
    x_title: str,
    y_title: str,
    name: str = "",
    size: int = 16,
) -> Figure:
    """A panel per method, a point per neuron, coloured by layer.

    Args:
        rows: `x`, `y`, `layer`, and `panel`; `label` is told of a point that is pointed at.
        title: The figure's title.
        caption: How to read it; what the axes are is said behind it.
        x_title: What x is.
        y_title: What y is.
        name: File name of the figure.
        size: Area of a point in square pixels.
    """
    data = plain_rows(rows, "label", "panel", "layer")
    panels = list(dict.fromkeys(row["panel"] for row in data))
    scale = alt.Scale(type="symlog", constant=_LINEAR, nice=False)
    plots = []
    for panel in panels:
        values = [row for row in data if row["panel"] == panel]
        plots.append(
            alt.Chart(alt.InlineData(values=values))
            .mark_point(
                filled=True, size=size, fillOpacity=0.75, opacity=1, stroke=MUTED, strokeWidth=1.1
            )
            .encode(
                x=alt.X("x:Q", title=x_title, scale=scale, axis=alt.Axis(tickCount=4)),
                y=alt.Y("y:Q", title=y_title, scale=scale, axis=alt.Axis(tickCount=4)),
                color=alt.Color(
                    "layer:Q", scale=alt.Scale(scheme="viridis"), legend=alt.Legend(title="layer")
                ),
                description="tip:N",
            )
            .properties(width=250, height=220, title=panel)
        )
    told = f"Both axes are linear up to about ±{_LINEAR:g} and logarithmic beyond."
    return Figure(title, f"{caption} {told}", alt.concat(*plots, columns=2), name)
