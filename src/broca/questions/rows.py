"""Rows of a table into questions, whatever its columns are called.

What counts as a text: `broca.facts.texts`. Which option an answer means: `which.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from broca.errors import QuestionsError
from broca.facts.reading import normalise
from broca.facts.texts import many_texts, one_text

from .build import OpenQuestion
from .question import AskedForm, Question
from .which import AnswerKind, Given, find_answers
from .wordings import ChoiceWording

NEEDED = ("question", "answer", "field")
OPTIONAL = (
    "options", "language", "id", "relation", "labels", "distractors", "pool", "answer_kind"
)  # fmt: skip
Columns = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class RowFormat:
    """How a table's columns are to be read.

    Attributes:
        columns: Our column name -> the table's, where they differ. `options` may name several
            columns, one per option.
        answer_kind: Whether `answer` is the option's "text", its "label", its position from 0
            ("index") or from 1 ("index-from-1"). "auto": what the rows' own column
            `answer_kind` says, or else the one that fits the whole file; refused where two do.
        field: The field of every row, for tables without such a column.
        language: The language of rows that name none.
    """

    columns: Columns = field(default_factory=dict)
    answer_kind: AnswerKind = "auto"
    field: str = ""
    language: str = "en"

    def __post_init__(self) -> None:
        unknown = [name for name in self.columns if name not in (*NEEDED, *OPTIONAL)]
        if unknown:
            known = ", ".join((*NEEDED, *OPTIONAL))
            raise QuestionsError(
                f"unknown column {', '.join(unknown)} in the column mapping", mend=f"Ours: {known}"
            )
        if self.answer_kind not in get_args(AnswerKind):
            raise QuestionsError("unknown kind of answer", str(self.answer_kind), _kinds())

    def value(self, row: Mapping[str, Any], name: str, where: str) -> Any:
        """The value of one of our columns; None where an optional column is not there.

        Raises:
            QuestionsError: A needed or a mapped column is missing.
        """
        column = self.columns.get(name, name)
        names = [column] if isinstance(column, str) else list(column)
        missing = [n for n in names if n not in row]
        if missing and (name in self.columns or name in NEEDED):
            raise QuestionsError(
                f"no column {', '.join(missing)} for {name!r}",
                where,
                f"Columns there: {', '.join(map(str, row)) or 'none'}; map them with columns",
            )
        if missing:
            return None
        return row[names[0]] if isinstance(column, str) else [row[n] for n in names]


Named = tuple[str, str, Mapping[str, Any]]
"""Where a row stands, the id it has unless it names one, and its values."""


def questions_from_rows(rows: Iterable[Named], form: RowFormat) -> list[Question | OpenQuestion]:
    """Questions with options, or open ones for rows that have none; the rows of one file.

    Raises:
        QuestionsError: A column is missing, its value is no text or cannot be used, or what the
            answers mean cannot be told.
    """
    listed = list(rows)
    given = [_given(row, where, form) for where, _, row in listed]
    closed = [each for each in given if each is not None]
    positions = iter(find_answers(closed, form.answer_kind))
    return [
        _question(named, form, each, None if each is None else next(positions))
        for named, each in zip(listed, given, strict=True)
    ]


def _given(row: Mapping[str, Any], where: str, form: RowFormat) -> Given | None:
    """The answer of a row with options, None for a row without."""
    options = _texts(form, row, "options", where)
    answer = form.value(row, "answer", where)
    if not options:
        return None
    kind = _text(form, row, "answer_kind", where) or "auto"
    if kind not in get_args(AnswerKind):
        raise QuestionsError(f"unknown kind of answer {kind!r}", where, _kinds())
    return Given(
        one_text(answer, "answer", where, QuestionsError, literal=True),
        options,
        _texts(form, row, "labels", where),
        where,
        kind,  # pyright: ignore[reportArgumentType]
    )


def _question(
    named: Named, form: RowFormat, given: Given | None, position: int | None
) -> Question | OpenQuestion:
    where, default_id, row = named
    common = {
        "id": _text(form, row, "id", where) or default_id,
        "question": one_text(
            form.value(row, "question", where), "question", where, QuestionsError, normalise
        ),
        "field": form.field or _text(form, row, "field", where),
        "language": _text(form, row, "language", where) or form.language,
        "relation": _text(form, row, "relation", where),
        "labels": _texts(form, row, "labels", where),
    }
    try:
        if given is None or position is None:
            return OpenQuestion(
                **common,
                answers=_answers(form, row, where),
                distractors=_texts(form, row, "distractors", where),
            )
        return Question(
            **common,
            options=given.options,
            answer=position,
            pool=_texts(form, row, "pool", where),
            **_ready_made(row, where),
        )
    except QuestionsError as error:
        if error.where and where in error.where:
            raise
        raise QuestionsError(error.what, where, error.mend) from None


def _answers(form: RowFormat, row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    answers = many_texts(form.value(row, "answer", where), "answer", where, QuestionsError)
    if not answers:
        raise QuestionsError("a question without answer", where)
    return tuple(dict.fromkeys(answers))


def _text(form: RowFormat, row: Mapping[str, Any], name: str, where: str) -> str:
    return one_text(form.value(row, name, where), name, where, QuestionsError)


def _texts(form: RowFormat, row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """A list of texts: from a list, a JSON list in a string, or "one | two | three"."""
    value = form.value(row, name, where)
    if isinstance(value, Mapping):
        raise QuestionsError(
            f"{name} holds a mapping where a list should be: {value!r}"[:200],
            where,
            'Write a list of texts, in the order of the labels: ["one", "two"]',
        )
    if value is not None and not isinstance(value, str | list | tuple):
        value = [value]  # one text; it is checked as one of a list
    return many_texts(value, name, where, QuestionsError, separator="|")


def _ready_made(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The parts that only files written by `write_questions` have."""
    try:
        asked = tuple(_asked(each) for each in row.get("asked") or ())
        wordings = tuple(ChoiceWording(**wording) for wording in row.get("wordings") or ())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        mend = "These are written by broca: leave `asked` and `wordings` out"
        raise QuestionsError(f"malformed prompts or wordings: {error!r}", where, mend) from None
    return {"asked": asked, "wordings": wordings}


def _asked(plain: Mapping[str, Any]) -> AskedForm:
    options, labels = plain["options"], plain["labels"]
    texts = (plain["text"], *options, *labels)
    answer = plain["answer"]
    if not all(isinstance(text, str) for text in texts) or type(answer) is not int:
        raise TypeError("texts and a whole number are needed")
    if not 0 <= answer < len(options) or len(options) != len(labels):
        raise ValueError("the right answer is not among the options")
    return AskedForm(plain["text"], tuple(options), tuple(labels), answer)


def _kinds() -> str:
    return f"Known: {', '.join(get_args(AnswerKind))}"
