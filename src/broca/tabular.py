"""Values that are tables: pandas, CSV and Parquet of them, and a small table in notebooks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broca.errors import BrocaError

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 8  # rows in a notebook
LONGEST = 60  # letters of a cell there

Columns = Mapping[str, Sequence[Any]]


class ExportError(BrocaError):
    """A table cannot be handed on or written."""


class Tabular(ABC):
    """A value that can be read as a table."""

    @abstractmethod
    def columns(self, limit: int | None = None) -> Columns:
        """Its columns by name, all of one length; at most `limit` rows where one is given."""

    def to_arrow(self) -> pa.Table:
        """The table as pyarrow's."""
        return arrow_of(self.columns())

    def to_pandas(self) -> Any:
        """The table as a data frame.

        Raises:
            ExportError: pandas is not installed.
        """
        require_pandas()
        return self.to_arrow().to_pandas()

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as CSV, UTF-8 with a heading; lists as their JSON.

        Raises:
            ExportError: The file exists or cannot be written.
        """
        return write_table(self.to_arrow(), path)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the table as Parquet.

        Raises:
            ExportError: The file exists or cannot be written.
        """
        return write_table(self.to_arrow(), path)

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.columns(SHOWN))


def require_pandas() -> None:
    """Make sure that there is pandas.

    Raises:
        ExportError: It is not installed.
    """
    try:
        import pandas  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ExportError(
            "pandas is not installed",
            mend='pip install "broca[pandas]", or take to_arrow() or to_csv(), which need none',
        ) from error


def arrow_of(columns: Columns) -> pa.Table:
    """Columns as a table; NaN is null."""
    import pyarrow as pa

    arrays = {name: pa.array(values, from_pandas=True) for name, values in columns.items()}
    return pa.table(arrays)


def table_of(records: Iterable[Any]) -> pa.Table:
    """Dataclasses or mappings (such as the rows of :func:`broca.answer_prompts`) as a table.

    Args:
        records: Of one kind each.

    Returns:
        A pyarrow table with a column per field; `.to_pandas()` makes a data frame of it.

    Raises:
        ExportError: A record is neither.
    """
    listed = [_plain(record) for record in records]
    names = dict.fromkeys(name for record in listed for name in record)
    return arrow_of({name: [record.get(name) for record in listed] for name in names})


def _plain(record: Any) -> dict[str, Any]:
    if is_dataclass(record) and not isinstance(record, type):
        return {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, Mapping):
        return dict(record)
    raise ExportError(f"{type(record).__name__} is no record", mend="Give rows, or mappings.")


# ---- files

ENDINGS = (".csv", ".json", ".parquet")


def write_table(table: pa.Table, path: str | Path) -> Path:
    """Write a table in the format that the name of the file ends in.

    Args:
        table: What to write.
        path: Ends in .csv, .json (a list of records) or .parquet; never overwritten.

    Raises:
        ExportError: Another ending, the file exists, or it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ExportError(
            "a table is written as CSV, JSON or Parquet", str(path), f"End it in {ENDINGS}"
        )
    if path.exists():
        raise ExportError("this file exists already", str(path), "Choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            _WRITERS[path.suffix.lower()](table, file)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ExportError("the table cannot be written", str(path), str(error)) from error
    return path


def _write_csv(table: pa.Table, file: Any) -> None:
    import pyarrow as pa
    import pyarrow.csv as pc

    for number, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            text = [None if v is None else _json(v) for v in table.column(number).to_pylist()]
            table = table.set_column(number, column.name, pa.array(text, pa.string()))
    pc.write_csv(table, file)


def _write_json(table: pa.Table, file: Any) -> None:
    records = ",\n".join(_json(record) for record in table.to_pylist())
    file.write(f"[\n{records}\n]\n".encode())


def _write_parquet(table: pa.Table, file: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, file)


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}


def _json(value: Any) -> str:
    import json

    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- notebooks


def html_table(caption: str, columns: Columns) -> str:
    """A small table; every text is escaped."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(_cell(value))}</td>' for value in row)}</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
