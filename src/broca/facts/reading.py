"""Text files into rows, with the line of every row, for error messages that name it."""

from __future__ import annotations

import csv
import io
import json
import tomllib
import unicodedata
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from broca.errors import BrocaError

Source = Path | Traversable


def normalise(text: object) -> str:
    """Text in Unicode NFC without space at its ends; "" for None. Line breaks inside stay."""
    return "" if text is None else unicodedata.normalize("NFC", str(text)).strip()


def clean(text: object) -> str:
    """Names: as `normalise`, and every run of spaces or line breaks is one space."""
    return " ".join(normalise(text).split())


def read_text(path: Source, error: type[BrocaError]) -> str:
    """The text of a UTF-8 file that is there and not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error("there is no such file", str(path), "Check the path") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"the file cannot be read: {cause}", str(path), "Save it as UTF-8") from None
    if not text.strip():
        raise error("the file is empty", str(path), "Fill it or leave it out")
    return text


def read_json(path: Source, error: type[BrocaError]) -> tuple[Any, str]:
    """A JSON document and its text."""
    text = read_text(path, error)
    try:
        return json.loads(text), text
    except json.JSONDecodeError as cause:
        where = f"{path}, line {cause.lineno}, column {cause.colno}"
        raise error(f"malformed JSON: {cause.msg}", where, "Mend that line") from None


def read_toml(path: Source, error: type[BrocaError]) -> tuple[dict[str, Any], str]:
    """A TOML document and its text."""
    text = read_text(path, error)
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as cause:  # its message names line and column
        raise error(f"malformed TOML: {cause}", str(path), "Mend that line") from None


def read_rows(path: Source, error: type[BrocaError]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a JSONL, CSV or TSV file, each with its place ("file, line 7")."""
    text = read_text(path, error)
    if path.name.endswith(".jsonl"):
        yield from _jsonl_rows(path, text, error)
        return
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if path.name[-4:] == ".tsv" else ",")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            mend = 'Put values that contain the separator in "quotes"'
            raise error("this line has another number of columns than the first", where, mend)
        yield where, {clean(name): value for name, value in row.items()}


def _jsonl_rows(
    path: Source, text: str, error: type[BrocaError]
) -> Iterator[tuple[str, dict[str, Any]]]:
    # not splitlines(): JSON strings may hold U+2028 and its like unescaped
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as cause:
            mend = "Each line must be one JSON object"
            raise error(f"malformed JSON: {cause.msg}", where, mend) from None
        if not isinstance(row, dict):
            raise error("not a JSON object", where, "Each line must be one JSON object")
        yield where, row


def line_of(text: str, needle: str) -> str:
    """ "line 7" for the first line that holds the needle, "" when none does."""
    position = text.find(needle)
    return f"line {text.count(chr(10), 0, position) + 1}" if position >= 0 else ""
