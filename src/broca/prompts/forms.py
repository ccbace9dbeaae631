"""Forms of asking: how a wording is put before a model (METHODS §9).

| form | text |
|---|---|
| `question` | the wording and `? Answer:` (the relation paper's) |
| `cloze` | the wording as it stands |
| `few-shot` | demonstrations of the same relation, `wording answer` a line, then the wording |
| `few-shot-other` | the same with demonstrations of other relations |
| `chat` | the wording as a user's turn in the model's chat template, the answer's turn begun |
| a text with `{wording}` | as given |

Endings of `question`:

* a wording without a question mark gets `? Answer:` ("NVIDIA's CEO is? Answer:");
* a wording that ends in a question mark gets ` Answer:`;
* a wording that goes on after its question mark ("Who is the CEO of {}? Their name is") begins
  an answer of its own; the ending takes its place ("Who is the CEO of NVIDIA? Answer:").

A relation may have wordings that are completed ("The capital of {} is") and wordings that are
questions ("What is the capital of {}?"). Where an answer follows the wording at once (`cloze`,
`few-shot`, a text that ends in `{wording}`), those that are completed are drawn; in a chat, and in
a text that goes on, questions are. Where there is none of the kind, all serve as they stand.

Source: arXiv 2502.17355, section 3 (`question`); the other forms are ours.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broca.errors import PromptError

FEW_SHOT = ("few-shot", "few-shot-other")
SHOTS = 4
"""Demonstrations by default."""
FORMS = ("question", "cloze", *FEW_SHOT, "chat")
SLOT = "{wording}"
ENDING = " Answer:"
KNOWN = f"Use {', '.join(FORMS)}, or a text with {SLOT}"

Chat = Callable[[str], str]
"""A user's message -> the text a model reads, ending where its answer begins."""

_QUESTION_MARK = re.compile(r"[?？؟]")


@dataclass(frozen=True)
class Placed:
    """A wording within the text that is given to the model.

    Attributes:
        text: The whole text.
        start: Where the wording begins in it.
        end: Where it ends.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Form:
    """One form of asking.

    Attributes:
        name: One of :data:`FORMS`, or a text with `{wording}`.
        shots: Demonstrations of the forms that show some.
        chat: Puts a message in the model's chat template; needed by "chat".

    Raises:
        PromptError: There is no such form, a text lacks its slot, or a chat its template.
    """

    name: str = "question"
    shots: int = SHOTS
    chat: Chat | None = None

    def __post_init__(self) -> None:
        check_form(self.name)
        if self.has_shots and self.shots < 1:
            raise PromptError(
                f"the form {self.name} needs at least 1 demonstration", f"shots = {self.shots}"
            )
        if self.name == "chat" and self.chat is None:
            raise PromptError(
                "the form chat needs the model's chat template",
                mend="Pass chat=model.chat, or use another form",
            )

    @property
    def has_shots(self) -> bool:
        """Whether demonstrations come first."""
        return self.name in FEW_SHOT

    def suffix(self, seed: int) -> str:
        """What a prompt's id says of its form: "" for `question`."""
        if self.name == "question":
            return ""
        if self.has_shots:
            return f"/{self.name}-{self.shots}.{seed}"
        if self.name in FORMS:
            return f"/{self.name}"
        return f"/text-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    def candidates(self, wordings: Sequence[str]) -> list[int]:
        """Positions of the wordings that suit this form."""
        if self.name == "question":
            suited = list(range(len(wordings)))
        elif self._answer_follows:
            suited = [i for i, wording in enumerate(wordings) if not _ends_asking(wording)]
        else:
            suited = [i for i, wording in enumerate(wordings) if question_end(wording)]
        return suited or list(range(len(wordings)))

    @property
    def _answer_follows(self) -> bool:
        if self.name in FORMS:
            return self.name != "chat"
        return self.name.rstrip().endswith(SLOT)

    def cut(self, wording: str, start: int | None = None) -> str:
        """What is asked of a wording: where a question is wanted, it ends with its mark.

        Args:
            wording: The wording.
            start: Marks before this position belong to a subject or to what comes before it;
                the slot's by default.
        """
        if self.name == "question":
            return end_question(wording, start).removesuffix(ENDING)
        end = question_end(wording, start)
        return wording if self._answer_follows or not end else wording[:end]

    def place(self, asked: str, demonstrations: Sequence[str] = (), gap: str = "\n") -> Placed:
        """A wording, with its subject, in this form.

        Args:
            asked: The wording, as `cut` leaves it.
            demonstrations: Lines before it.
            gap: What stands between them.
        """
        asked = asked.rstrip()
        if self.name == "chat":
            assert self.chat is not None
            text = self.chat(asked)
            start = text.rfind(asked)
            # a template may change a message (white space, escapes): then all of it counts
            return Placed(text, start, start + len(asked)) if start >= 0 else Placed(text, 0, -1)
        if self.name in FORMS:
            before = "".join(line + gap for line in demonstrations)
            after = ENDING if self.name == "question" else ""
            return Placed(before + asked + after, len(before), len(before) + len(asked))
        before, after = self.name.split(SLOT)
        # a space would be a token of the answer; a line's end is the text's own, as in a chat
        text = (before + asked + after).rstrip(" \t")
        return Placed(text, len(before), len(before) + len(asked))


def check_shots(forms: Sequence[str], shots: int | None) -> None:
    """Refuse a number of demonstrations, other than by default, where no form shows any.

    Args:
        forms: Forms that are asked in; "auto" tries those with demonstrations.
        shots: Demonstrations; None where none were named.

    Raises:
        PromptError: None of the forms has demonstrations.
    """
    if shots in (None, SHOTS) or any(form in ("auto", *FEW_SHOT) for form in forms):
        return
    asked = " and ".join(dict.fromkeys(forms))
    raise PromptError(
        f"shots is for the few-shot forms, and the form is {asked}",
        f"shots = {shots}",
        'Leave shots out, or use the form "few-shot"',
    )


def check_form(name: str) -> None:
    """Refuse what is no form of asking.

    Raises:
        PromptError: With the nearest form, what a text lacks, or how a line's end is typed.
    """
    if name in FORMS:
        return
    if "\\n" in name:  # typed in a shell, which knows no escapes between its quotes
        raise PromptError(
            f"the form {name} has a backslash and an n where a line should end",
            "form",
            """In a shell write $'Q: {wording}\\nA:', in a recipe "Q: {wording}\\nA:\"""",
        )
    if name.count(SLOT) == 1:
        return
    if name == "auto":
        raise PromptError(
            "the form auto is chosen by measuring",
            mend=f"Where there are facts to ask, it is; here, name one: {', '.join(FORMS)}",
        )
    near = difflib.get_close_matches(name, FORMS, n=1)
    if near or SLOT in name or not re.search(r"[\s{}]", name):
        what = f"{name!r} is no form of asking"
        guess = f"Did you mean {near[0]!r}? " if near else ""
    else:
        what, guess = f"the form {name!r} has no {SLOT}", ""
    if name.count(SLOT) > 1:
        what = f"the form {name!r} has {SLOT} more than once"
    raise PromptError(what, "form", guess + KNOWN)


def name_of(form: str) -> str:
    """A form as sentences name it: a text of one's own in quotes."""
    return form if form in FORMS else repr(form)


def add_ending(wording: str) -> str:
    """A wording with one slot `{}` and the ending `? Answer:`, without asking twice."""
    return end_question(wording)


def end_question(text: str, start: int | None = None) -> str:
    """A text with the ending `? Answer:`; question marks before `start` do not count."""
    end = question_end(text, start)
    return (text[:end] if end else f"{text}?") + ENDING


def question_end(wording: str, start: int | None = None) -> int:
    """Where the last question mark behind a wording's slot ends, 0 where there is none."""
    start = max(wording.find("{}"), 0) if start is None else start
    marks = [match.end() for match in _QUESTION_MARK.finditer(wording, start)]
    return marks[-1] if marks else 0


def _ends_asking(wording: str) -> bool:
    return question_end(wording) == len(wording.rstrip())


def join_answer(text: str, answer: str) -> str:
    """A demonstration: a text and its answer, apart as the script of the text has it."""
    text = text.rstrip()
    wide = text[-1:] and unicodedata.east_asian_width(text[-1]) in "WF"
    return f"{text}{'' if wide else ' '}{answer}"
