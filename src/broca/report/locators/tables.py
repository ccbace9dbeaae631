"""What the tables of locators are made of: estimates out of records, marked winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broca.report.parts.tables import Column, Table

DRAWN = (
    "exact",
    "hard-concrete",
    "slimming",
    "ig",
    "gradient-activation",
    "gradient",
    "activation",
    "random",
)
"""Locators drawn as curves; tables have them all."""

WINNER_HELP = "★: no other locator is better by its paired interval (exact effect and random apart)"


@dataclass(frozen=True)
class Spread:
    """A value with the interval it lies in."""

    value: float
    low: float
    high: float
    n: int


def spread(record: Mapping[str, Any], figure: str) -> Spread:
    """A figure of a record with its interval; NaN where it has none."""
    found = [record[f"{figure}{end}"] for end in ("", "_low", "_high")]
    return Spread(*(float("nan") if x is None else float(x) for x in found), n=int(record["n"]))


def locator_table(
    records: Sequence[Mapping[str, Any]],
    figures: Mapping[str, str],
    caption: str,
    name: str,
    *,
    beside: Mapping[str, str] | None = None,
) -> Table:
    """A row per locator: figures with intervals, a star at the winners, what it costs.

    Args:
        records: From the findings.
        figures: Figure -> heading.
        caption: What the table shows.
        name: Its file name.
        beside: Further keys -> heading, such as published figures.
    """
    columns: list[str | Column] = ["locator"]
    for figure, heading in figures.items():
        columns.append(Column(heading, ".3f"))
        if f"{figure}_wins" in records[0]:
            columns.append(Column("best", help=WINNER_HELP))
    columns += [Column(heading, ".3f") for heading in (beside or {}).values()]
    columns.append(Column("CPU s", ".2f", "CPU seconds per prompt"))
    rows = []
    for record in records:
        row: list[Any] = [record["title"]]
        for figure in figures:
            row.append(spread(record, figure))
            if f"{figure}_wins" in record:
                row.append("★" if record[f"{figure}_wins"] else "")
        row += [record.get(key) for key in beside or {}]
        rows.append((*row, record["seconds"]))
    return Table(columns, rows, caption, name=name)
