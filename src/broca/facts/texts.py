"""Where a text is needed: the one strict reading of values that files hold.

1. A text is itself, a whole number its digits (1969 → "1969").
2. `{"str": "Paris", "id": "Q1"}`, the form of CounterFact, is its text.
3. Where several texts may stand, a list is its texts, and so is a text that holds a JSON list
   (a cell of a table).
4. Everything else is refused with its place: 1969.0, NaN, true, null inside a list, bytes, dates,
   other mappings, lists in lists. Their written form would otherwise become an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from broca.errors import BrocaError

from .reading import clean

MEND = "Write a text or a whole number"
MENDS = f'{MEND}, or a list of them: ["one", "two"]'
# Python's written form of a list, a mapping, a tuple or bytes, as tables written by str() hold it
_WRITTEN = re.compile(r"""\[\s*b?'.*'\s*\]|\{\s*'.*\}|\(\s*'.*\)|b'.*'|b".*\"""", re.DOTALL)
_COUNTERFACT = frozenset({"str", "id"})


def one_text(
    value: object,
    what: str,
    where: str,
    error: type[BrocaError],
    shape: Callable[[Any], str] = clean,
    *,
    literal: bool = False,
) -> str:
    """One text, in Unicode NFC without space at its ends; "" where there is nothing (None).

    Args:
        value: What a file holds.
        what: Its column, for the message.
        where: File and line, for the message.
        error: Class of the error.
        shape: `clean` (one line), or `normalise` (line breaks stay).
        literal: Take a text for itself though it looks like a written list: options of a question
            about lists do.

    Raises:
        BrocaError: It is no text.
    """
    if value is None:
        return ""
    plain = _plain(value)
    if not isinstance(plain, str):
        raise _refusal(value, what, where, error, MEND)
    text = shape(plain)
    _require_unicode(text, what, where, error)
    if not literal and (_WRITTEN.fullmatch(text) or _as_json(text) is not None):
        raise error(f"{what} holds a list or mapping, one text is needed: {_short(text)}", where)
    return text


def many_texts(
    value: object,
    what: str,
    where: str,
    error: type[BrocaError],
    separator: str | None = None,
) -> tuple[str, ...]:
    """One text or a list of texts, cleaned; () where there is nothing.

    Args:
        value: What a file holds.
        what: Its column, for the message.
        where: File and line, for the message.
        error: Class of the error.
        separator: What parts several texts in one; none by default.

    Raises:
        BrocaError: It is neither, or a text of the list is empty.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, str):
        value = _cell(value, what, where, error, strict=separator is not None)
    if isinstance(value, str) and separator is not None:
        value = value.split(separator)
    if not isinstance(value, list | tuple):
        return (one_text(value, what, where, error, literal=True),)
    for item in value:
        if item is None or isinstance(item, list | tuple):
            raise _refusal(value, what, where, error, MENDS)
    texts = tuple(one_text(item, what, where, error, literal=True) for item in value)
    if not all(texts):
        raise error(f"{what} holds an empty text: {_short(value)}", where, "Fill it or remove it")
    return texts


def _cell(text: str, what: str, where: str, error: type[BrocaError], *, strict: bool) -> object:
    """What the text of a cell means: a JSON list or object, or the text itself."""
    stripped = text.strip()
    found = _as_json(stripped)
    if found is not None:
        return found
    if _WRITTEN.fullmatch(stripped) or stripped[:2] == '["' or (strict and stripped[:1] == "["):
        mend = f'Write it as JSON, with "double" quotes: {MENDS}'
        raise error(f"{what} holds a malformed list: {_short(text)}", where, mend)
    return text


def _as_json(text: str) -> Any:
    """The JSON list or object a text holds, None where it holds none."""
    if text[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain(value: object) -> object:
    """The text of a text, of a whole number, or of CounterFact's form; else the value itself."""
    if isinstance(value, Mapping) and "str" in value and value.keys() <= _COUNTERFACT:
        value = value["str"]
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value)
    return value


def _digits(value: int) -> object:
    try:
        return str(int(value))
    except ValueError:  # thousands of digits
        return value


def _require_unicode(text: str, what: str, where: str, error: type[BrocaError]) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        raise error(f"{what} is no Unicode text: {text!r}", where, "Save it as UTF-8") from None


def _refusal(
    value: object, what: str, where: str, error: type[BrocaError], mend: str
) -> BrocaError:
    return error(f"{what} holds {_kind(value)}, not a text: {_short(value)}", where, mend)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, float):
        return "a number that is not whole" if value == value else "NaN (a missing value)"
    if isinstance(value, list | tuple):
        return "a list of something else than texts" if value else "an empty list"
    if isinstance(value, Mapping):
        return "a mapping"
    return f"a value of kind {type(value).__name__}"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or nested as deeply
        return "…"
    return text if len(text) <= 80 else f"{text[:77]}…"
