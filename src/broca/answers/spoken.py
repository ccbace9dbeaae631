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
    for line in text.splitlines():
        for pattern, plain in _MARKUP:
            line = pattern.sub(plain, line.strip())
        line = line.strip().strip(_QUOTES).strip()
        if re.search(r"\w", line):
            return line
    return ""
