"""Sentences that are no facts: carriers for objects, neutral prose about subjects; frequencies.

All three are the user's own or come with atlas:

* carriers (JSONL): `{"kind": "city", "text": "The late train to {} was almost empty."}`
* prose (JSONL): `{"concept": "person", "subject": "…", "predicate": "has_name", "text": "…"}`
* frequencies (CSV): columns `id` (or `relation` and `subject`) and one of `exposures`,
  `frequency`, `count`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from broca.errors import FactsError
from broca.facts.reading import read_lines, read_rows
from broca.facts.tables import read_number
from broca.facts.texts import one_text

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
    rows = list(read_rows(path, FactsError))
    columns = rows[0][1].keys() if rows else set()
    value = next((name for name in FREQUENCY_COLUMNS if name in columns), None)
    if value is None or not ("id" in columns or {"relation", "subject"} <= columns):
        raise FactsError(
            "the frequencies lack a column",
            str(path),
            f"Give id (or relation and subject) and one of {', '.join(FREQUENCY_COLUMNS)}",
        )
    names = ("id",) if "id" in columns else ("relation", "subject")
    found = {}
    for where, row in rows:
        key = ":".join(one_text(row[name], name, where, FactsError) for name in names)
        number = read_number(where, row, value)
        if number is None or number < 0:
            raise FactsError(f"no frequency in column {value}", where, "Write a number from 0 on")
        if found.setdefault(key, number) != number:
            raise FactsError(f"{key!r} has two frequencies", where, "Keep one of them")
    return found


def has_frequencies(source: str) -> bool:
    """Whether there is a table of frequencies."""
    return _place(source, "exposure.csv").is_file()


def _place(source: str, name: str) -> Traversable | Path:
    return files("broca") / "atlas" / name if source == "atlas" else Path(source)


def _records(source: str, name: str, keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    for where, row in read_lines(_place(source, name), FactsError):
        record = {key: one_text(row.get(key), key, where, FactsError) for key in keys}
        if not all(record.values()):
            raise FactsError("a sentence lacks an entry", where, f"Needed: {', '.join(keys)}")
        yield where, record
