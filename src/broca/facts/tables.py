"""Facts as rows: JSONL or CSV with the columns subject, relation, object and, optionally, more.

Optional columns: language (default "en"), id, band, exposure, derived. `object` may be a list (in
a cell of a CSV file a JSON list), and `objects` may give the objects by language:
{"en": ["Germany"], "de": ["Deutschland"]}. What counts as a text: `texts.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broca.errors import FactsError

from .names import canonical_name
from .reading import Source, read_rows
from .texts import many_texts, one_text

COLUMNS = "subject, relation, object"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class RawFact:
    """One statement of a file, before statements about the same subject are joined."""

    subject: str
    relation: str
    objects: tuple[str, ...]
    where: str
    language: str = "en"
    id: str = ""
    band: int | None = None
    exposure: float | None = None
    derived: bool = False


def read_table(path: Source) -> list[RawFact]:
    """All statements of a JSONL, CSV or TSV file; one per language where a row has several.

    Raises:
        FactsError: A row lacks a column or a value; the message names file and line.
    """
    facts = [fact for where, row in read_rows(path, FactsError) for fact in _facts(where, row)]
    if not facts:
        raise FactsError("there are no facts in the file", str(path), f"Columns: {COLUMNS}")
    return facts


def _facts(where: str, row: Mapping[str, Any]) -> list[RawFact]:
    missing = [name for name in ("subject", "relation") if name not in row]
    if "object" not in row and "objects" not in row:
        missing.append("object")
    if missing:
        there = ", ".join(row) or "none"
        raise FactsError(
            f"missing column {', '.join(missing)}",
            where,
            f"Needed: {COLUMNS}; there are: {there}",
        )
    subject, relation, language, id_ = (
        one_text(row.get(name), name, where, FactsError)
        for name in ("subject", "relation", "language", "id")
    )
    texts = _objects(where, row, language or "en")
    _refuse_empty(where, subject=subject, relation=relation, object=texts and all(texts.values()))
    band, exposure = read_number(where, row, "band"), read_number(where, row, "exposure")
    if band is not None and not band.is_integer():
        raise FactsError(f"band is no whole number: {band}", where, "Write a whole number")
    return [
        RawFact(
            subject,
            canonical_name(relation),
            objects,
            where,
            language,
            id_,
            None if band is None else int(band),
            exposure,
            _truth(where, row, "derived"),
        )
        for language, objects in texts.items()
    ]


def _objects(where: str, row: Mapping[str, Any], language: str) -> dict[str, tuple[str, ...]]:
    """Language -> right objects, each once."""
    given = row.get("objects")
    if isinstance(given, Mapping) and "str" not in given:
        by_language = {str(code): value for code, value in given.items()}
    else:
        by_language = {language: row.get("object", given)}
    return {
        code: tuple(dict.fromkeys(many_texts(value, "object", where, FactsError)))
        for code, value in by_language.items()
    }


def _refuse_empty(where: str, **values: object) -> None:
    empty = [name for name, value in values.items() if not value]
    if empty:
        raise FactsError(f"empty {', '.join(empty)}", where, "Fill it or remove the line")


def read_number(where: str, row: Mapping[str, Any], column: str) -> float | None:
    """The finite number in a column, None where there is none.

    Raises:
        FactsError: It holds something else.
    """
    value = row.get(column)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and math.isnan(value):  # how tables write a missing value
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise FactsError(f"{column} is no number: {value!r}", where, "Write a number")
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _truth(where: str, row: Mapping[str, Any], column: str) -> bool:
    value = row.get(column)
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = known.get("" if value is None else str(value).strip().lower())
    if found is None and value not in (None, ""):
        raise FactsError(f"{column} is neither true nor false: {value!r}", where, "Write true")
    return bool(found)
