"""Text files into rows, with the line of every row, for error messages that name it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from broca.errors import BrocaError
from broca.reading import Source, parse_json, parse_toml, read_text

from .cells import read_cells

ONE_OBJECT = "Each line must be one JSON object"


def normalise(text: object) -> str:
    """Text in Unicode NFC without space at its ends; "" for None. Line breaks inside stay."""
    return "" if text is None else unicodedata.normalize("NFC", str(text)).strip()


def clean(text: object) -> str:
    """Names: as `normalise`, and every run of spaces or line breaks is one space."""
    return " ".join(normalise(text).split())


def read_json(path: Source, error: type[BrocaError]) -> tuple[Any, str]:
    """A JSON document and its text."""
    text = read_text(path, error)
    return parse_json(text, str(path), error), text


def read_toml(path: Source, error: type[BrocaError]) -> tuple[dict[str, Any], str]:
    """A TOML document and its text."""
    text = read_text(path, error)
    return parse_toml(text, str(path), error), text


def read_rows(path: Source, error: type[BrocaError]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSONL, CSV or TSV file, each with its place ("file, line 7")."""
    if path.name.endswith(".jsonl"):
        return read_lines(path, error)
    return iter(read_cells(path, read_text(path, error), error))


def read_lines(path: Source, error: type[BrocaError]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file with a JSON object on each line, whatever the file is called."""
    return _jsonl_rows(path, read_text(path, error), error)


def _jsonl_rows(
    path: Source, text: str, error: type[BrocaError]
) -> Iterator[tuple[str, dict[str, Any]]]:
    # not splitlines(): JSON strings may hold U+2028 and its like unescaped
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where, error, ONE_OBJECT)
        if not isinstance(row, dict):
            raise error("not a JSON object", where, ONE_OBJECT)
        yield where, row


def line_of(text: str, needle: str) -> str:
    """ "line 7" for the first line that holds the needle, "" when none does."""
    position = text.find(needle)
    return f"line {text.count(chr(10), 0, position) + 1}" if position >= 0 else ""
