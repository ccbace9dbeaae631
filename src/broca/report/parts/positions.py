"""Where in a prompt and in the layers something lies: layers by tokens, coloured cells."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from broca.report.parts.charts import finite, number_text
from broca.report.parts.figure import TIP, Figure, clean
from broca.report.parts.heatmaps import Matrix, labels_of, scale_of
from broca.report.parts.theme import DIVERGING

_WIDE, _NARROW, _MANY = 24, 13, 40  # a cell's width in pixels; in prompts of many tokens
_HIGHEST = 420  # of the whole map


def layer_position_map(
    values: Matrix,
    tokens: Sequence[str],
    *,
    title: str,
    caption: str,
    value_title: str,
    name: str = "",
) -> Figure:
    """A value per layer and token of one prompt, red above 0 and blue below.

    Args:
        values: [layer, token]; the last layer is drawn at the top.
        tokens: The prompt's tokens as text.
        title: The figure's title.
        caption: How to read it.
        value_title: What the colours say, above their scale.
        name: File name of the figure.
    """
    shown = [clean(token).replace("\n", "↵").replace(" ", "·") or "∅" for token in tokens]
    data = [
        {
            "layer": layer,
            "token": place,
            "value": finite(value),
            "tip": f"{TIP}layer {layer} · token {place + 1} {shown[place]}: "
            + number_text(finite(value)),
        }
        for layer, line in enumerate(values)
        for place, value in enumerate(line)
    ]
    largest = max((abs(row["value"] or 0.0) for row in data), default=0.0) or 1.0
    n_layers = len(values)
    width = len(tokens) * (_WIDE if len(tokens) <= _MANY else _NARROW)
    x = alt.X(
        "token:O",
        title=None,
        axis=alt.Axis(labelExpr=labels_of(shown), labelAngle=-60, ticks=False, labelOverlap=False),
    )
    step = max(1, n_layers // 12)
    axis = alt.Axis(values=list(range(0, n_layers, step)))
    ends = [-largest, 0, largest]
    legend = alt.Legend(title=value_title, format=".2~g", gradientLength=140, values=ends)
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_rect(stroke="#ffffff", strokeOpacity=0.35)
        .encode(
            x=x,
            y=alt.Y("layer:O", title="layer", sort="descending", axis=axis),
            color=alt.Color("value:Q", scale=scale_of(-largest, largest, DIVERGING), legend=legend),
            description="tip:N",
        )
        .properties(width=max(width, 120), height=min(_HIGHEST, max(90, 18 * n_layers)))
    )
    return Figure(title, caption, chart, name, heat=True)
