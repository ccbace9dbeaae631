"""Tables: the same one for the page, for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from rich import box
from rich.table import Table as RichTable
from rich.text import Text


def cells(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of a table from stored records, by key."""
    return [tuple(record[key] for key in keys) for record in records]


class HasInterval(Protocol):
    """An estimate: a value with the interval it lies in."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def has_interval(value: Any) -> TypeGuard[HasInterval]:
    """Whether a value is an estimate; checking against a protocol would be slow for many cells."""
    return all(hasattr(value, name) for name in ("value", "low", "high"))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading.
        format: How numbers are written: a format specification of Python, "percent", or "p" for
            p-values.
        help: What it holds, shown when pointing at the heading.
    """

    name: str
    format: str = ""
    help: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        columns: Headings, or columns with formats.
        rows: Cells: texts, numbers, truth values, estimates (value, low, high), None.
        caption: What the table shows and its n.
        sortable: Whether a click on a heading sorts it on the page.
        folded: Whether the page shows only the caption until it is opened.
        name: File name of the CSV; made from the caption when empty.
    """

    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    sortable: bool = True
    folded: bool = False
    name: str = ""

    @property
    def headings(self) -> list[Column]:
        """All columns as `Column`."""
        return [each if isinstance(each, Column) else Column(each) for each in self.columns]

    def cells(self) -> Iterator[list[Cell]]:
        """The rows as written."""
        headings = self.headings
        for row in self.rows:
            yield [cell(value, column.format) for value, column in zip(row, headings, strict=True)]

    def numeric(self) -> list[bool]:
        """Per column, whether it holds numbers, which are aligned to the right."""
        return [
            any(_is_number(row[i]) for row in self.rows)
            and all(row[i] is None or _is_number(row[i]) for row in self.rows)
            for i in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Cell:
    """A cell as written.

    Attributes:
        text: The value.
        interval: Its interval, or empty.
        sort: What it sorts by: a number as text, or the text in lower case.
    """

    text: str
    interval: str
    sort: str


def cell(value: Any, format: str = "") -> Cell:
    """One value as it is written into a table."""
    if value is None:
        return Cell("–", "", "")
    if isinstance(value, bool):
        return Cell("✓" if value else "✗", "", str(int(value)))
    if has_interval(value):
        if math.isnan(value.low) and math.isnan(value.high):  # too few for an interval
            return Cell(number(value.value, format), "", repr(float(value.value)))
        low, high = (number(end, format).removesuffix(" %") for end in (value.low, value.high))
        return Cell(number(value.value, format), f"[{low}, {high}]", repr(float(value.value)))
    if _is_number(value):
        return Cell(number(value, format), "", repr(float(value)))
    return Cell(str(value), "", str(value).lower())


def _is_number(value: Any) -> bool:
    return (hasattr(value, "__float__") and not isinstance(value, bool | str)) or has_interval(
        value
    )


def number(value: Any, format: str = "") -> str:
    """A number as written: three significant digits where no format is given."""
    value = float(value) if not isinstance(value, int) else value
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("unbounded" if value > 0 else "−∞")
    if format == "percent":
        text = f"{100 * value:.1f} %"
    elif format == "p":
        text = "< 0.001" if value < 0.001 else f"{value:.3f}"
    elif format:
        text = f"{value:{format}}"
    else:
        text = f"{value:,}" if isinstance(value, int) or value.is_integer() else f"{value:.3g}"
    return text.replace("-", "−") if "e" not in text else text


def records_table(
    records: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str | Column],
    caption: str = "",
    **options: Any,
) -> Table:
    """A row per record.

    Args:
        records: What is shown.
        columns: Key of a record -> its column.
        caption: As a table's.
        **options: Further attributes of the table.
    """
    return Table(list(columns.values()), cells(records, list(columns)), caption, **options)


def percents(**names: str) -> dict[str, Column]:
    """Columns of shares: key -> heading."""
    return {key: Column(name, "percent") for key, name in names.items()}


def as_rich(table: Table) -> RichTable:
    """The table for a terminal."""
    shown = RichTable(title=table.caption or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column, right in zip(table.headings, table.numeric(), strict=True):
        shown.add_column(Text(column.name), justify="right" if right else "left")
    for row in table.cells():
        shown.add_row(*(Text(f"{each.text} {each.interval}".rstrip()) for each in row))
    return shown


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(table: Table) -> str:
    """The table as CSV with unrounded numbers; an estimate takes three columns.

    A text that begins like a formula has a ' before it: a spreadsheet would compute it.
    """
    spread = [any(has_interval(row[i]) for row in table.rows) for i in range(len(table.columns))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heading: list[str] = []
    for column, wide in zip(table.headings, spread, strict=True):
        heading += [column.name]
        heading += [f"{column.name} (low)", f"{column.name} (high)"] if wide else []
    writer.writerow(heading)
    for row in table.rows:
        line: list[Any] = []
        for value, wide in zip(row, spread, strict=True):
            line += _csv_cells(value, wide)
        writer.writerow(line)
    return text.getvalue()


def _csv_cells(value: Any, wide: bool) -> list[Any]:
    if has_interval(value):
        return [value.value, value.low, value.high]
    plain = "" if value is None else value
    if isinstance(plain, str) and plain.startswith(_FORMULA):
        plain = f"'{plain}"
    return [plain, "", ""] if wide else [plain]


def settings_table(values: Mapping[str, Any], caption: str, folded: bool = True) -> Table:
    """Nested settings as two columns, dotted names and values."""
    rows = list(_flat(values, ""))
    return Table(("setting", "value"), rows, caption, sortable=False, folded=folded)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", "–" if value is None else str(value)
