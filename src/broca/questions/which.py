"""Which option is right: what a file's answers mean.

An answer may be the option's **text**, its **label**, its position counted from 0 (**index**) or
from 1 (**index-from-1**). One file means one of these:

1. A kind is possible for the file when it gives an option in every row.
2. One kind possible: that one, so a 0 among the answers settles that positions count from 0, and a
   position as large as the number of options that they count from 1. Sound as long as a column
   has one meaning throughout.
3. Several kinds possible: they must give the same option in every row. No kind possible: in every
   row all kinds that give an option must give the same. Else the file is refused, with both
   options and the setting that chooses; nothing is guessed.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from broca.errors import QuestionsError

AnswerKind = Literal["auto", "text", "label", "index", "index-from-1"]
KINDS: tuple[AnswerKind, ...] = ("text", "label", "index", "index-from-1")
MEANINGS = {
    "text": "the option's text",
    "label": "a label",
    "index": "a position from 0",
    "index-from-1": "a position from 1",
}


@dataclass(frozen=True)
class Given:
    """An answer as a row gives it.

    Attributes:
        answer: Its text; a whole number's digits.
        options: The options.
        labels: Their labels; () for A, B, C, ...
        where: File and line.
        kind: What the row itself says of its kind; "auto" where it says nothing.
    """

    answer: str
    options: tuple[str, ...]
    labels: tuple[str, ...]
    where: str
    kind: AnswerKind = "auto"

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, by default letters."""
        return self.labels or tuple(string.ascii_uppercase[: len(self.options)])

    def position(self, kind: AnswerKind) -> int | None:
        """Position of the option the answer means, read as one kind; None if it means none."""
        if kind in ("text", "label"):
            among = self.options if kind == "text" else self.names
            return among.index(self.answer) if self.answer in among else None
        if not (self.answer.isascii() and self.answer.isdigit() and len(self.answer) < 10):
            return None
        position = int(self.answer) - (kind == "index-from-1")
        return position if 0 <= position < len(self.options) else None

    def readings(self, kinds: Iterable[AnswerKind] = KINDS) -> dict[AnswerKind, int]:
        """Kind -> position, for the kinds that give an option."""
        found: dict[AnswerKind, int | None] = {kind: self.position(kind) for kind in kinds}
        return {kind: at for kind, at in found.items() if at is not None}


def find_answers(rows: Sequence[Given], kind: AnswerKind = "auto") -> list[int]:
    """Positions of the right options of the rows of one file.

    Args:
        rows: The answers of the file.
        kind: What they are; "auto" finds out, see above.

    Raises:
        QuestionsError: An answer is not among the options, or means two of them.
    """
    open_rows = [row for row in rows if (row.kind if kind == "auto" else kind) == "auto"]
    possible: list[AnswerKind] = [
        k for k in KINDS if all(row.position(k) is not None for row in open_rows)
    ]
    return [_find(row, row.kind if kind == "auto" else kind, possible) for row in rows]


def _find(row: Given, kind: AnswerKind, possible: Sequence[AnswerKind]) -> int:
    readings = row.readings((possible or KINDS) if kind == "auto" else (kind,))
    if not readings:
        told = ", ".join(KINDS) if kind == "auto" else kind
        raise QuestionsError(
            f"the right answer {row.answer!r} is not among the options",
            row.where,
            f"Options: {list(row.options)}, labels: {list(row.names)}; answers are read as {told}",
        )
    if len(set(readings.values())) > 1:
        (one, first), (other, second) = _two(readings)
        raise QuestionsError(
            f"the answer {row.answer!r} may mean {row.options[first]!r} (read as {MEANINGS[one]}) "
            f"or {row.options[second]!r} (read as {MEANINGS[other]})",
            row.where,
            f'Say which with answer_kind = "{one}" or "{other}" (--set answer_kind={one})',
        )
    return next(iter(readings.values()))


def _two(readings: dict[AnswerKind, int]) -> list[tuple[AnswerKind, int]]:
    """The first reading and the first that differs from it."""
    listed = list(readings.items())
    return [listed[0], next(item for item in listed if item[1] != listed[0][1])]
