"""Rows: one prompt under one condition, one table for all studies, kept as Parquet parts.

A part holds the rows of one or more finished conditions and names these conditions in its
metadata, so a condition is finished exactly when a part names it. Parts are written whole or not
at all and are named after their conditions: writing the same conditions again replaces the part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from broca.errors import RunError
from broca.store.files import TEMPORARY_MARK, replacing

_CONDITIONS = b"broca.conditions"

Found = TypeVar("Found")


def _text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False)


ROW_SCHEMA = pa.schema(
    [
        _text("study"),
        _text("condition"),
        _text("intervention"),
        pa.field("factor", pa.float64()),
        _text("positions"),
        _text("replacement"),
        _text("set"),
        _text("method"),
        _text("control"),
        pa.field("seed", pa.int64()),
        pa.field("k", pa.int64()),
        _text("prompt"),
        _text("query"),
        _text("relation"),
        _text("field"),
        _text("language"),
        _text("template"),
        _text("role"),
        _text("text"),
        pa.field("ids", pa.list_(pa.int32())),
        pa.field("correct", pa.bool_()),
        pa.field("log_p", pa.float64()),
        pa.field("rank", pa.int64()),
        pa.field("p_after", pa.float64()),
        pa.field("p_within", pa.float64()),
        pa.field("margin", pa.float64()),
        _text("said"),
        pa.field("n_answer_tokens", pa.int32()),
        _text("text_before"),
        pa.field("correct_before", pa.bool_()),
        pa.field("log_p_before", pa.float64()),
        pa.field("rank_before", pa.int64()),
        pa.field("p_before", pa.float64()),
        pa.field("p_within_before", pa.float64()),
        pa.field("margin_before", pa.float64()),
    ]
)
"""Columns of a row; docs/files.md says what each holds. Texts are never null but may be empty."""

_DEFAULTS: dict[str, Any] = {field.name: None if field.nullable else "" for field in ROW_SCHEMA}


def rows_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of `ROW_SCHEMA`; missing columns are null, or empty where they hold text.

    Raises:
        ValueError: A row has a column the schema does not know, or no condition or prompt.
    """
    filled = []
    for row in rows:
        unknown = row.keys() - _DEFAULTS.keys()
        if unknown:
            raise ValueError(f"not columns of a row: {', '.join(sorted(unknown))}")
        if not row.get("condition") or not row.get("prompt"):
            raise ValueError("a row needs a condition and a prompt")
        filled.append({**_DEFAULTS, **row})
    return pa.Table.from_pylist(filled, schema=ROW_SCHEMA)


class RowFolder:
    """The `rows/` folder of a run.

    Args:
        path: The folder; it need not exist before the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys_of_part: dict[str, tuple[str, ...]] = {}

    def append(
        self,
        rows: Iterable[Mapping[str, Any]] | pa.Table,
        finished: Iterable[str] | None = None,
    ) -> Path:
        """Store the rows of finished conditions as one part; when this returns they are on disk.

        Args:
            rows: Rows of complete conditions, all of them.
            finished: Their condition keys, if some condition has no rows; else read from the rows.

        Returns:
            The part written.

        Raises:
            ValueError: A prompt occurs twice in a condition, or a row's condition is not finished.
            RunError: The part cannot be written.
        """
        table: Any = rows if isinstance(rows, pa.Table) else rows_table(rows)
        found = set(table.column("condition").unique().to_pylist())
        keys = tuple(sorted(found if finished is None else set(finished)))
        if not found <= set(keys):
            raise ValueError("rows of a condition that is not among the finished ones")
        pairs = table.group_by(["condition", "prompt"]).aggregate([])
        if pairs.num_rows < table.num_rows:
            raise ValueError("a prompt occurs twice in a condition")
        part = self.path / f"{hashlib.sha256('|'.join(keys).encode()).hexdigest()[:32]}.parquet"
        metadata = {_CONDITIONS: json.dumps(keys).encode()}
        with replacing(part) as beside:
            pq.write_table(
                _ordered(table.cast(ROW_SCHEMA)).replace_schema_metadata(metadata),
                beside,
                compression="zstd",
                write_page_checksum=True,
            )
        self._keys_of_part[part.name] = keys
        return part

    def finished(self) -> frozenset[str]:
        """Keys of all conditions whose rows are on disk."""
        return self._steadily(
            lambda parts: frozenset(key for part in parts for key in self._keys(part))
        )

    def read(
        self,
        *,
        conditions: Collection[str] | None = None,
        study: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """All rows, each condition once, ordered by study, condition and prompt.

        The result does not depend on the order in which conditions were computed, nor on how
        they were spread over parts.

        Args:
            conditions: Only these keys.
            study: Only rows first computed for this study.
            columns: Only these columns.
        """
        tables = self._steadily(lambda parts: self._tables(parts, conditions))
        table = pa.concat_tables(tables) if tables else ROW_SCHEMA.empty_table()
        if study is not None:
            table = table.filter(pc.field("study") == study)
        table = _ordered(table)
        return table if columns is None else table.select(list(columns))

    def count(self) -> int:
        """Number of rows, each condition once: a kill amid `compact` leaves some in two parts."""
        return self._steadily(lambda parts: sum(t.num_rows for t in self._tables(parts, None)))

    def compact(self) -> None:
        """Put all parts into one, so that other programs read each row once and in order.

        A kill in the middle leaves conditions in two parts, which readers of this class merge.
        """
        old = self.parts()
        if len(old) < 2:
            return
        whole = self.append(self.read(), self.finished())
        for part in old:
            if part != whole:
                part.unlink(missing_ok=True)

    def parts(self) -> list[Path]:
        """The files that hold rows, sorted."""
        found = self.path.glob("*.parquet")
        return sorted(part for part in found if TEMPORARY_MARK not in part.name)

    def _steadily(self, look: Callable[[list[Path]], Found]) -> Found:
        """What a look at all parts gives; look again if another process has compacted them."""
        while True:
            parts = self.parts()
            try:
                return look(parts)
            except RunError:
                if all(part.exists() for part in parts):
                    raise

    def _tables(self, parts: list[Path], conditions: Collection[str] | None) -> list[pa.Table]:
        """Rows of parts, each condition once."""
        taken: set[str] = set()
        tables = []
        for part in parts:
            keys = set(self._keys(part)) - taken
            if conditions is not None:
                keys &= set(conditions)
            if not keys:
                continue
            taken |= keys
            table = _read(part)
            tables.append(table.filter(pc.field("condition").isin(sorted(keys))))
        return tables

    def _keys(self, part: Path) -> tuple[str, ...]:
        if part.name not in self._keys_of_part:
            written = (_metadata(part).metadata or {}).get(_CONDITIONS)
            if written is None:
                raise _unreadable(part, "it names no conditions")
            self._keys_of_part[part.name] = tuple(json.loads(written))
        return self._keys_of_part[part.name]


def _ordered(table: pa.Table) -> pa.Table:
    keys = ("study", "condition", "prompt")
    return table.sort_by([(key, "ascending") for key in keys]).combine_chunks()


def n_rows(part: Path) -> int:
    """Number of rows in a part.

    Raises:
        RunError: It cannot be read.
    """
    return _metadata(part).num_rows


def _metadata(part: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(part)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(part, str(error)) from error


def _read(part: Path) -> pa.Table:
    try:
        table = pq.read_table(part, schema=ROW_SCHEMA).replace_schema_metadata(None)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(part, str(error)) from error
    for place, column in enumerate(ROW_SCHEMA):
        if not column.nullable and table.column(place).null_count:  # older than the column
            table = table.set_column(place, column, table.column(place).fill_null(""))
    return table


def is_whole(part: Path) -> bool:
    """Whether every row of a part can be read and every page has its checksum."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            for _ in file.iter_batches():
                pass
            keys = json.loads((file.metadata.metadata or {})[_CONDITIONS])
    except (OSError, ValueError, KeyError, RecursionError, pa.ArrowException):
        return False
    return isinstance(keys, list)


def _unreadable(part: Path, reason: str) -> RunError:
    return RunError(
        f"a file of rows cannot be read: {reason}",
        where=str(part),
        mend="Delete it and resume the run: only its conditions are computed again",
    )
