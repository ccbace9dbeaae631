"""The values: a text with its right answers, and one that offers options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """One text and its right answers.

    Attributes:
        id: Unique and the same in every run: fact or question, language, wording, form.
        text: Raw text; without space at its end, but for what a chat template puts there.
        answers: Right answers, without space at their start.
        subject: Subject of the fact, "" for questions of files.
        relation: Relation of the fact or question.
        language: Language of the wording.
        template: Wording used, as `set.position` or its name.
        fact: Id of the fact or question.
        field: Field of knowledge.
        role: What the prompt is for ("detection", "evaluation", "choice", ...).
        subject_span: Where the subject stands in the text, as (start, end) in characters.
        form: How the wording is put: "question", "cloze", "few-shot", "few-shot-other", "chat",
            or a text with `{wording}`.
        asked_span: Where the asked wording stands in the text, without ending, demonstrations
            and markup, as (start, end) in characters; None for all of it.
        shown: Answers of the demonstrations before it, in their order.
        objects: All objects of the relation, from which a right answer is told apart.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    subject: str = ""
    relation: str = ""
    language: str = "en"
    template: str = ""
    fact: str = ""
    field: str = ""
    role: str = ""
    subject_span: tuple[int, int] | None = None
    form: str = "question"
    asked_span: tuple[int, int] | None = None
    shown: tuple[str, ...] = ()
    objects: tuple[str, ...] = dataclasses.field(default=(), repr=False)


@dataclass(frozen=True)
class ChoicePrompt(Prompt):
    """A question with options; `answers` is the right label, `fact` the question's id.

    Attributes:
        options: Options in the order of the text.
        labels: Their labels, in the same order.
        answer: Position of the right option.
    """

    options: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    answer: int = 0

    @property
    def right(self) -> str:
        """The text of the right option."""
        return self.options[self.answer]
