"""What a model says in words: for readers and kinds of answers, never for what is right."""

from __future__ import annotations

import re

_MARKUP = (
    (re.compile(r"</?[a-zA-Z][^<>]{0,60}>"), ""),  # tags
    (re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)"), r"\1"),  # links and pictures
    (re.compile(r"(\*{1,3}|_{1,3}|`{1,3}|~~)(?=\S)(.+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"^\s*(?:#{1,6}\s+|>\s*|[-*+•]\s+|\d{1,2}[.)]\s+)"), ""),  # heads, lists
    (re.compile(r"^\W*(?:answer|the answer is)\s*:\W*", re.IGNORECASE), ""),
    (re.compile(r"^[*_`~#]+|[*_`~#]+$"), ""),  # begun, and cut off
)
_QUOTES = "\"'“”‘’«»„「」『』"


def spoken(text: str) -> str:
    """The first line of a text that says something, without markup and quotation marks.

    ``"\\n\\n**Paris**.\\nThe capital"`` says ``"Paris."``.
    """
    return next(filter(None, map(_plain, text.splitlines())), "")


def said_line(text: str) -> str:
    """The same line as it was said, markup and all; where none says anything, the first one."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return next(filter(_plain, lines), lines[0] if lines else "")


def has_ended(text: str) -> bool:
    """Whether the first line that says something is over."""
    return bool(spoken(text.rpartition("\n")[0]))


def _plain(line: str) -> str:
    """A line without markup and quotation marks; "" where no letter or digit is left."""
    for pattern, plain in _MARKUP:
        line = pattern.sub(plain, line.strip())
    line = line.strip().strip(_QUOTES).strip()
    return line if re.search(r"\w", line) else ""
