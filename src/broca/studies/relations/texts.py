"""Sentences that are no facts: carriers for objects, neutral prose about subjects; frequencies.

All three are the user's own or come with atlas:

* carriers (JSONL): `{"kind": "city", "text": "The late train to {} was almost empty."}`
* prose (JSONL): `{"concept": "person", "subject": "…", "predicate": "has_name", "text": "…"}`
* frequencies (CSV): columns `id` (or `relation` and `subject`) and one of `exposures`,
  `frequency`, `count`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from broca.errors import FactsError

CONCEPT_ALIASES = {"landmark": "place", "athlete": "person"}
KIND_ALIASES = {"sport position": "position", "sport_position": "position"}
FREQUENCY_COLUMNS = ("exposures", "exposure", "frequency", "count")


def concept_of(concept: str) -> str:
    """A concept's name in the prose: LRE speaks of landmarks, atlas of places."""
    return CONCEPT_ALIASES.get(concept, concept)


def load_carriers(source: str) -> dict[str, list[str]]:
    """Kind of object -> sentences with one `{}` that does not stand at their beginning.

    Raises:
        FactsError: The file is missing or malformed, or holds no such sentence.
    """
    carriers: dict[str, list[str]] = {}
    for where, record in _records(source, "carriers.jsonl", ("kind", "text")):
        text = record["text"]
        if text.count("{}") != 1:
            raise FactsError("a carrier has one {} for the object", where, f"It is {text!r}")
        if text.index("{}"):
            carriers.setdefault(record["kind"], []).append(text)
    if not carriers:
        raise FactsError("there are no carriers", source)
    return carriers


def load_prose(source: str) -> list[dict[str, str]]:
    """Sentences about subjects, each with its concept, subject and predicate.

    Raises:
        FactsError: The file is missing or malformed, or names fewer than two concepts.
    """
    keys = ("concept", "subject", "predicate", "text")
    records = [dict(record) for _, record in _records(source, "prose.jsonl", keys)]
    if len({record["concept"] for record in records}) < 2:
        raise FactsError("prose needs sentences about at least two concepts", source)
    return records


def load_frequencies(source: str) -> dict[str, float]:
    """Id of a fact (or `relation:subject`) -> how often it was seen.

    Raises:
        FactsError: The file is missing or has no column of frequencies, or one is no number.
    """
    path = _place(source, "exposure.csv")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FactsError("the frequencies cannot be read", str(path), str(error)) from error
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or []
    value = next((name for name in FREQUENCY_COLUMNS if name in columns), None)
    if value is None or not ("id" in columns or {"relation", "subject"} <= set(columns)):
        raise FactsError(
            "the frequencies lack a column",
            str(path),
            f"Give id (or relation and subject) and one of {', '.join(FREQUENCY_COLUMNS)}",
        )
    found = {}
    for number, row in enumerate(reader, start=2):
        try:
            key = row["id"] if "id" in columns else f"{row['relation']}:{row['subject']}"
            found[key] = float(row[value])
        except (TypeError, ValueError):
            raise FactsError(f"no number in column {value}", f"{path}, line {number}") from None
    return found


def has_frequencies(source: str) -> bool:
    """Whether there is a table of frequencies."""
    return _place(source, "exposure.csv").is_file()


def _place(source: str, name: str) -> Traversable | Path:
    return files("broca") / "atlas" / name if source == "atlas" else Path(source)


def _records(
    source: str, name: str, keys: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    path = _place(source, name)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FactsError("the sentences cannot be read", str(path), str(error)) from error
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line) if line.strip() else None
        except json.JSONDecodeError as error:
            raise FactsError(f"this line is no JSON: {error.msg}", where) from error
        if record is None:
            continue
        if not isinstance(record, dict) or not all(isinstance(record.get(k), str) for k in keys):
            raise FactsError("a sentence lacks an entry", where, f"Needed: {', '.join(keys)}")
        yield where, record
