"""Facts as rows: JSONL or CSV with the columns subject, relation, object and, optionally, more.

Optional columns: language (default "en"), id, band, exposure, derived. In JSONL `object` may be
a list, and `objects` may give the objects by language: {"en": ["Germany"], "de": ["Deutschland"]}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broca.errors import FactsError

from .names import canonical_name
from .reading import Source, clean, read_rows

COLUMNS = "subject, relation, object"


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


def to_texts(value: object) -> tuple[str, ...]:
    """One text or a list of texts, cleaned, without empty ones and repetitions."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(text for text in map(clean, values) if text))


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
    by_language = row.get("objects")
    if not isinstance(by_language, Mapping):
        language = clean(row.get("language")) or "en"
        by_language = {language: row.get("object", by_language)}
    texts = {str(language): to_texts(objects) for language, objects in by_language.items()}
    subject, relation = clean(row["subject"]), canonical_name(clean(row["relation"]))
    _refuse_empty(where, subject=subject, relation=relation, object=texts and all(texts.values()))
    id_, band = clean(row.get("id")), _number(where, row, "band", int)
    exposure = _number(where, row, "exposure", float)
    derived = clean(row.get("derived")).lower() in ("true", "1", "yes")
    return [
        RawFact(subject, relation, objects, where, language, id_, band, exposure, derived)
        for language, objects in texts.items()
    ]


def _refuse_empty(where: str, **values: object) -> None:
    empty = [name for name, value in values.items() if not value]
    if empty:
        raise FactsError(f"empty {', '.join(empty)}", where, "Fill it or remove the line")


def _number(where: str, row: Mapping[str, Any], column: str, kind: type) -> Any:
    text = clean(row.get(column))
    try:
        return kind(text) if text else None
    except ValueError:
        raise FactsError(f"{column} is no number: {text!r}", where, "Write a number") from None
