"""One row of a table into a question, whatever its columns are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from broca.errors import QuestionsError
from broca.facts.reading import clean, normalise
from broca.facts.tables import to_texts

from .build import OpenQuestion
from .question import AskedForm, Question
from .wordings import ChoiceWording

NEEDED = ("question", "answer", "field")
OPTIONAL = ("options", "language", "id", "relation", "labels", "distractors", "pool")
AnswerKind = Literal["auto", "text", "label", "index"]
Columns = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class RowFormat:
    """How a table's columns are to be read.

    Attributes:
        columns: Our column name -> the table's, where they differ. `options` may name several
            columns, one per option.
        answer_kind: Whether `answer` is the option's text, its label or its position from 0.
            "auto": a number is a position; a text is looked up among the options, then among
            the labels.
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
            kinds = ", ".join(get_args(AnswerKind))
            raise QuestionsError("unknown kind of answer", self.answer_kind, f"Known: {kinds}")

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


def question_from_row(
    row: Mapping[str, Any], where: str, form: RowFormat, default_id: str
) -> Question | OpenQuestion:
    """A question with options, or an open one where the row has none.

    Raises:
        QuestionsError: A column is missing or its value cannot be used.
    """
    common = {
        "id": clean(form.value(row, "id", where)) or default_id,
        "question": normalise(form.value(row, "question", where)),
        "field": form.field or clean(form.value(row, "field", where)),
        "language": clean(form.value(row, "language", where)) or form.language,
        "relation": clean(form.value(row, "relation", where)),
        "labels": _texts(form.value(row, "labels", where), where),
    }
    options = _texts(form.value(row, "options", where), where)
    answer = form.value(row, "answer", where)
    try:
        if options:
            position = find_answer(answer, options, common["labels"], form.answer_kind, where)
            return Question(
                **common,
                options=options,
                answer=position,
                pool=_texts(form.value(row, "pool", where), where),
                **_ready_made(row),
            )
        return OpenQuestion(
            **common,
            answers=_answers(answer, where),
            distractors=_texts(form.value(row, "distractors", where), where),
        )
    except QuestionsError as error:
        if error.where and where in error.where:
            raise
        raise QuestionsError(error.what, where, error.mend) from None


def find_answer(
    answer: object, options: Sequence[str], labels: Sequence[str], kind: AnswerKind, where: str
) -> int:
    """Position of the right option.

    Raises:
        QuestionsError: It is not among the options.
    """
    text = clean(answer)
    is_number = isinstance(answer, int) and not isinstance(answer, bool)
    names = list(labels) or [chr(ord("A") + i) for i in range(len(options))]
    if kind == "index" or (kind == "auto" and is_number):
        if text.isdigit() and int(text) < len(options):
            return int(text)
    elif kind in ("auto", "text") and text in options:
        return options.index(text)
    elif kind in ("auto", "label") and text in names:
        return names.index(text)
    raise QuestionsError(
        f"the right answer {text!r} is not among the options",
        where,
        f"Options: {list(options)}, labels: {names}; answers are read as {kind!r}",
    )


def _answers(answer: object, where: str) -> tuple[str, ...]:
    answers = to_texts(answer)
    if not answers:
        raise QuestionsError("a question without answer", where)
    return answers


def _texts(value: object, where: str) -> tuple[str, ...]:
    """A list of texts: from a list, a JSON list in a string, or "one | two | three"."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as cause:
                raise QuestionsError(f"malformed list: {cause.msg}", where) from None
        else:
            value = value.split("|")
    if not isinstance(value, Sequence) and not hasattr(value, "__iter__"):
        raise QuestionsError(f"not a list: {value!r}", where, "Write a list of texts")
    return tuple(clean(item) for item in value)  # pyright: ignore[reportGeneralTypeIssues]


def _ready_made(row: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that only files written by `write_questions` have."""
    return {
        "asked": tuple(
            AskedForm(a["text"], tuple(a["options"]), tuple(a["labels"]), a["answer"])
            for a in row.get("asked") or ()
        ),
        "wordings": tuple(ChoiceWording(**wording) for wording in row.get("wordings") or ()),
    }
