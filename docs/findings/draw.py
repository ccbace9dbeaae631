"""Draw the pictures of docs/findings.md from the files beside it: python docs/findings/draw.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import altair as alt

HERE = Path(__file__).parent
TARGETS = {
    "related": "the answer they were found for",
    "same": "other answers of the same field",
    "unrelated": "answers in other fields",
    "matched": "matched random neurons off",
}


def bars(names: dict[str, str]) -> list[dict[str, Any]]:
    """What suppressing query neurons costs, with and without inverse clustering."""
    rows = []
    for name, label in names.items():
        figures = json.loads((HERE / f"{name}.json").read_text("utf-8"))["figures"]
        for method, called in (("na-ica", "NA-ICA"), ("na", "without inverse clustering")):
            for key, target in TARGETS.items():
                at = f"queries.{method}.suppress.{key}"
                if figures.get(at) is None:
                    continue
                low, high = figures.get(f"{at}.low"), figures.get(f"{at}.high")
                rows.append(
                    {
                        "model": label,
                        "method": called,
                        "of": target,
                        "change": 100 * figures[at],
                        "low": None if low is None else 100 * low,
                        "high": None if high is None else 100 * high,
                    }
                )
    return rows


def draw(names: dict[str, str], path: Path) -> None:
    """One panel per model, as PNG."""
    order = list(TARGETS.values())
    base = alt.Chart(alt.Data(values=bars(names))).encode(
        y=alt.Y("of:N", sort=order, title=None, axis=alt.Axis(labelLimit=260)),
        yOffset=alt.YOffset("method:N", sort=["NA-ICA"]),
    )
    bar = base.mark_bar().encode(
        x=alt.X("change:Q", title="change of the answer's probability, %"),
        color=alt.Color("method:N", title=None, sort=["NA-ICA"], legend=alt.Legend(orient="top")),
    )
    rule = base.mark_rule().encode(x="low:Q", x2="high:Q")
    chart = (
        alt.layer(bar, rule)
        .properties(width=420, height=180)
        .facet(row=alt.Row("model:N", sort=list(names.values()), title=None))
        .resolve_scale(x="shared")
    )
    chart.save(path, scale_factor=2)


if __name__ == "__main__":
    known = {
        "smollm2-words": "SmolLM2-135M-Instruct",
        "gemma3-words": "Gemma 3 270M",
        "atlas-words": "atlas",
    }
    there = {name: label for name, label in known.items() if (HERE / f"{name}.json").exists()}
    draw(there, HERE.parent / "images" / "words.png")
