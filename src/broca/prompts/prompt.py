"""The values: a text with its right answers, and one that offers options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from broca.errors import PromptError


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

    @property
    def last_line(self) -> str:
        """What an answer follows, as a sentence quotes it: the last line, in a chat the message."""
        if self.form == "chat" and self.asked_span is not None:
            return self.text[slice(*self.asked_span)]
        return self.text if self.form == "chat" else self.text.rsplit("\n", 1)[-1]

    @property
    def is_shown(self) -> bool:
        """Whether a right answer stands among the demonstrations: it may be copied from there."""
        return bool(set(self.shown) & set(self.answers))

    @property
    def is_named(self) -> bool:
        """Whether a right answer stands in the subject asked about, as Crux does in Gacrux."""
        subject = self.subject.casefold()
        return any(answer.casefold() in subject for answer in self.answers)


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

    def option_spans(self) -> list[tuple[int, int]]:
        """Where every option stands in the text, as (start, end) in characters.

        Options are looked for from the end: those of demonstrations stand before.

        Raises:
            PromptError: The text does not hold them in their order.
        """
        spans, end = [], len(self.text)
        for option in reversed(self.options):
            start = self.text.rfind(option, 0, end)
            if start < 0:
                raise PromptError(
                    "the options cannot be found in the prompt's text",
                    f"prompt {self.id}: {option!r}",
                    "Give the options as the text writes them, in their order",
                )
            spans.append((start, start + len(option)))
            end = start
        return spans[::-1]

    def option_lines(self) -> tuple[int, int]:
        """Where the lines of the options stand in the text, as (start, end) in characters.

        Raises:
            PromptError: The text does not hold the options in their order.
        """
        spans = self.option_spans()
        return self.text.rfind("\n", 0, spans[0][0]) + 1, spans[-1][1]

    def rearranged(self, order: Sequence[int], name: str) -> ChoicePrompt:
        """The same prompt with its options in another order, all else as it stands.

        Args:
            order: Position that each option comes from.
            name: Put behind the prompt's id.

        Raises:
            PromptError: The text does not hold the options in their order.
        """
        text, at = "", 0
        for (start, end), source in zip(self.option_spans(), order, strict=True):
            text += self.text[at:start] + self.options[source]
            at = end
        answer = list(order).index(self.answer)
        return dataclasses.replace(
            self,
            id=f"{self.id}/{name}",
            text=text + self.text[at:],
            options=tuple(self.options[source] for source in order),
            answers=(self.labels[answer],),
            answer=answer,
        )
