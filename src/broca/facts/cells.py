"""Tables of separated values: the rows of a CSV or TSV file, with the line of each.

Cells are texts, with two exceptions, which pandas writes and which are numbers for whoever reads
them: a missing value (`nan`), and a column in which every number has `.0`, as whole numbers with
gaps become.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from broca.errors import BrocaError
from broca.reading import Source

QUOTES = 'Put values that contain the separator in "quotes", and close every quote'
MISSING = frozenset({"nan", "NaN", "<NA>", "NaT"})
_POINT_ZERO = re.compile(r"\s*-?\d+\.0\s*")

Row = tuple[str, dict[str, Any]]


def read_cells(path: Source, text: str, error: type[BrocaError]) -> list[Row]:
    """The rows of a table with a line of names.

    Raises:
        BrocaError: Of the given class: a line has another number of columns than the first, a
            quote is not closed, or two columns have the same name.
    """
    separator = "\t" if path.name.endswith(".tsv") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    rows: list[Row] = []
    with _any_length():
        for line in _lines(reader, str(path), error):
            where = f"{path}, line {reader.line_num}"
            if not names:
                names = [" ".join(unicodedata.normalize("NFC", name).split()) for name in line]
                _require_distinct(names, where, error)
            elif len(line) != len(names):
                what = f"this line has {len(line)} columns, the first has {len(names)}"
                raise error(what, where, QUOTES)
            else:
                rows.append((where, dict(zip(names, line, strict=True))))
    _read_numbers(names, rows)
    return rows


def _lines(reader: Any, path: str, error: type[BrocaError]) -> Iterator[list[str]]:
    """Lines that hold something."""
    try:
        yield from (line for line in reader if line)
    except csv.Error as cause:
        where = f"{path}, line {reader.line_num}"
        raise error(f"malformed table: {cause}", where, QUOTES) from None


@contextmanager
def _any_length() -> Iterator[None]:
    """Cells of any length: the whole text is in memory anyway."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _require_distinct(names: list[str], where: str, error: type[BrocaError]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise error(f"two columns are called {name!r}", where, "Rename or remove one of them")


def _read_numbers(names: list[str], rows: list[Row]) -> None:
    """Missing values, and whole columns of numbers with .0, become numbers."""
    for name in names:
        cells = [row[name] for _, row in rows if row[name].strip() not in {"", *MISSING}]
        numbers = bool(cells) and all(map(_POINT_ZERO.fullmatch, cells))
        for _, row in rows:
            if row[name].strip() in MISSING:
                row[name] = float("nan")
            elif numbers and row[name].strip():
                row[name] = float(row[name])
