"""The value: a question with its options, and what a set of questions must satisfy."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from broca.errors import QuestionsError
from broca.facts.seeding import stable_number

from .wordings import ChoiceWording


@dataclass(frozen=True)
class AskedForm:
    """One ready-made prompt of a question, as some files bring it.

    Attributes:
        text: The whole prompt.
        options: The options in the order of the text.
        labels: Their labels in the same order.
        answer: Position of the right option.
    """

    text: str
    options: tuple[str, ...]
    labels: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Question:
    """One query: a question, its options and which of them is right.

    Attributes:
        id: Unique within a set of questions.
        question: The question's own text, without options and instructions.
        options: All options as the source orders them.
        answer: Position of the right one.
        field: Field of knowledge (a domain, or a language).
        language: Language of question and options.
        labels: One label per option; A, B, C, ... by default.
        relation: Relation behind the question, "" where there is none.
        pool: More wrong answers. Where there are some, each prompt of the question draws its
            own wrong options from them (as paper A's language set does); else all prompts
            shuffle the same options.
        asked: Ready-made prompts; they are used as they are instead of a wording.
        wordings: Wordings to ask with; our own of the language when empty.

    Raises:
        QuestionsError: Options or labels repeat, or the answer is not among the options.
    """

    id: str
    question: str
    options: tuple[str, ...]
    answer: int
    field: str
    language: str = "en"
    labels: tuple[str, ...] = ()
    relation: str = ""
    pool: tuple[str, ...] = ()
    asked: tuple[AskedForm, ...] = ()
    wordings: tuple[ChoiceWording, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", default_labels(len(self.options), self.id))
        check_options(self.options, self.labels, self.answer, f"question {self.id}")
        if not self.question or not self.field:
            empty = "text" if not self.question else "field"
            raise QuestionsError(f"a question without {empty}", f"question {self.id}")
        if self.pool and (len(self.pool) < len(self.options) - 1 or self.right in self.pool):
            raise QuestionsError(
                "the pool of wrong answers is too small or holds the right one",
                f"question {self.id}",
            )

    @property
    def right(self) -> str:
        """The right option."""
        return self.options[self.answer]

    @property
    def base(self) -> str:
        """The id without "@" and the language: the same for versions in several languages."""
        return self.id.removesuffix(f"@{self.language}")


def default_labels(n_options: int, where: str) -> tuple[str, ...]:
    """A, B, C, ... for so many options."""
    if n_options > len(string.ascii_uppercase):
        raise QuestionsError(
            f"{n_options} options are more than there are letters", where, "Give labels of your own"
        )
    return tuple(string.ascii_uppercase[:n_options])


def check_options(options: Sequence[str], labels: Sequence[str], answer: int, where: str) -> None:
    """Refuse options that cannot be told apart or that lack the right answer.

    Raises:
        QuestionsError: With the reason.
    """
    if len(options) < 2:
        raise QuestionsError("a question needs at least two options", where)
    if len(set(options)) < len(options) or not all(options):
        raise QuestionsError("options are equal or empty", where, f"Options: {list(options)}")
    if len(labels) != len(options) or len(set(labels)) < len(labels) or not all(labels):
        mend = f"Each of the {len(options)} options needs a label of its own"
        raise QuestionsError(f"labels do not fit the options: {list(labels)}", where, mend)
    if not 0 <= answer < len(options):
        raise QuestionsError("the right answer is not among the options", where)


def check_distinct(questions: Iterable[Question]) -> list[Question]:
    """The same questions, none of them twice.

    Raises:
        QuestionsError: There is none; an id comes twice; or the same question with the same
            options is asked twice in one language.
    """
    ids: set[str] = set()
    contents: dict[tuple[object, ...], str] = {}
    kept = list(questions)
    for question in kept:
        if question.id in ids:
            raise QuestionsError("two questions have the same id", f"question {question.id}")
        ids.add(question.id)
        content = (question.language, question.question, frozenset(question.options))
        if content in contents:
            raise QuestionsError(
                "the same question comes twice",
                f"questions {contents[content]} and {question.id}",
                "Remove one of them",
            )
        contents[content] = question.id
    if not kept:
        raise QuestionsError("there are no questions", mend="Check source, fields and languages")
    return kept


def require_several_fields(questions: Sequence[Question], n: int = 2) -> Sequence[Question]:
    """The questions, if they come from at least `n` fields.

    Raises:
        QuestionsError: They come from fewer; unrelated queries are those of other fields.
    """
    fields = sorted({question.field for question in questions})
    if len(fields) < n:
        raise QuestionsError(
            f"questions of {n} fields are needed, there is {len(fields)}",
            where=", ".join(fields) or None,
            mend="The effect on unrelated queries is measured on other fields: add questions",
        )
    return questions


def with_language_as_field(questions: Iterable[Question]) -> list[Question]:
    """The same questions with their language as field, for studies of languages."""
    return [replace(question, field=question.language) for question in questions]


def choose_per_field(
    questions: Iterable[Question], per_field: int | None, seed: int = 0
) -> list[Question]:
    """At most so many questions of every (field, language), drawn by seed and id alone.

    Ids that end in "@" and the language are drawn alike in all languages.
    """
    kept = list(questions)
    if per_field is None:
        return kept
    if per_field < 1:
        raise QuestionsError("at least 1 question per field is needed", f"per_field={per_field}")
    groups: dict[tuple[str, str], list[Question]] = {}
    for question in kept:
        groups.setdefault((question.field, question.language), []).append(question)
    chosen: set[str] = set()
    for group in groups.values():
        group.sort(key=lambda q: (stable_number(seed, q.base), q.id))
        chosen.update(question.id for question in group[:per_field])
    return [question for question in kept if question.id in chosen]
