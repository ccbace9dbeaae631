"""Texts of files into plain values: what cannot be read is told in a sentence, with its place.

One door for JSON and TOML, whoever reads: recipes, runs, neuron sets, facts, questions, prompts.
"""

from __future__ import annotations

import json
import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from broca.errors import BrocaError

Source = Path | Traversable

DEEPEST = 32  # tables within tables
TOO_DEEP = "it is nested too deeply"
NO_UTF8 = "Save it as UTF-8"


def read_text(path: Source, error: type[BrocaError]) -> str:
    """The text of a UTF-8 file that is there and not empty; a byte order mark is dropped.

    Raises:
        BrocaError: Of the given class.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error("there is no such file", str(path), "Check the path") from None
    except UnicodeDecodeError as cause:
        raise error(f"the file cannot be read: {cause}", str(path), NO_UTF8) from None
    except (OSError, ValueError) as cause:  # ValueError: a path that holds a zero character
        raise error(
            f"the file cannot be read: {cause}", repr(str(path)), "Check the path"
        ) from None
    if not text.strip():
        raise error("the file is empty", str(path), "Fill it or leave it out")
    return text


def parse_json(text: str, where: str, error: type[BrocaError], mend: str = "Mend that line") -> Any:
    """The value of a JSON text.

    Raises:
        BrocaError: Of the given class: it is malformed, nested too deeply, or names a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as cause:
        if "\n" in text.strip():
            where = f"{where}, line {cause.lineno}, column {cause.colno}"
        raise error(f"malformed JSON: {cause.msg}", where, mend) from None
    except RecursionError:
        raise error(f"malformed JSON: {TOO_DEEP}", where, mend) from None
    except ValueError as cause:  # a key that comes twice, a number of thousands of digits
        raise error(f"malformed JSON: {cause}", where, mend) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} comes twice in one object")
    return found


def load_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text; dotted keys are read at any depth, and what reads on is not.

    Raises:
        RecursionError: Tables are nested deeper than any file of ours.
        ValueError: It is malformed.
    """
    values = tomllib.loads(text)
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        level = [part for table in level if isinstance(table, dict) for part in table.values()]
    if any(isinstance(part, dict) for part in level):
        raise RecursionError
    return values


def parse_toml(text: str, where: str, error: type[BrocaError]) -> dict[str, Any]:
    """The values of a TOML text.

    Raises:
        BrocaError: Of the given class: it is malformed or nested too deeply.
    """
    try:
        return load_toml(text)
    except RecursionError:
        raise error(f"malformed TOML: {TOO_DEEP}", where, "Mend that line") from None
    except ValueError as cause:  # TOMLDecodeError names line and column; numbers may be too long
        raise error(f"malformed TOML: {cause}", where, "Mend that line") from None
