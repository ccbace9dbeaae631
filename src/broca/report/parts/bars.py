"""Bars of several figures of each record, without intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.parts.charts import bars_with_intervals
from broca.report.parts.figure import Figure


def plain_bars(
    records: Sequence[Mapping[str, Any]],
    key: str,
    words: Mapping[str, str],
    *,
    title: str,
    caption: str,
    value_title: str,
    name: str,
    percent: bool = True,
) -> Figure:
    """Bars of several figures of each record, without intervals."""
    rows = [
        {
            "group": record[key],
            "condition": condition,
            "value": record[figure],
            "low": None,
            "high": None,
            "n": record.get("n"),
        }
        for record in records
        for figure, condition in words.items()
    ]
    return bars_with_intervals(
        rows, title=title, caption=caption, value_title=value_title, name=name, percent=percent
    )
