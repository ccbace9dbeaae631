"""Which form of asking a model answers in: measured, where the settings say "auto" (METHODS §9).

1. Some facts or questions of every field are kept apart, for this alone (`apart.py`).
2. One prompt of each is asked in every form, behind demonstrations that are kept apart as well.
3. The form with most right answers is taken; of equal ones the first in the order of `FORMS`.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from broca.choices import Letters
from broca.errors import PromptError
from broca.prompts import FORMS, Form, Prompt
from broca.studies.queries.asking import read_apart, render
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.facts import read_word_queries
from broca.studies.queries.locating import Asked

SAMPLE = 48  # prompts asked in every form


@dataclass(frozen=True)
class Tried:
    """One form on the sample.

    Attributes:
        form: The form.
        n: Prompts asked.
        accuracy: Share of right answers; None where it cannot be asked.
        reason: Why it cannot.
        examples: What was answered to the first ones.
        apart: Whether they are asked about nowhere else.
        right: Right answers.
        right_shown: Of these, those among the demonstrations.
        right_named: Of these, those in the subject itself.
    """

    form: str
    n: int
    accuracy: float | None
    reason: str = ""
    examples: tuple[str, ...] = ()
    apart: bool = True
    right: int = 0
    right_shown: int = 0
    right_named: int = 0


def form_of(config: QueriesConfig, answer: str, *, embedded: bool) -> str:
    """The form that the settings ask for; "auto" is to be measured."""
    if answer == "letters" and config.chat_template:
        return "chat"
    return config.form or ("question" if embedded or answer == "letters" else "auto")


def choose_form(
    config: QueriesConfig, by: str, bench: Any, answer: str = "words"
) -> tuple[str, list[Tried]]:
    """The form to ask in, and what was tried.

    Raises:
        PromptError: No form can be asked.
    """
    form = form_of(config, answer, embedded=bench.model.is_embedded)
    if form != "auto":
        return form, []
    rendered: dict[str, list[Prompt] | str] = {}
    apart = True
    for name in FORMS:
        if answer == "letters" and name == "cloze":  # a question with options stands as it is
            continue
        try:
            rendered[name], apart = _sample(config, by, bench.model, name, answer)
        except PromptError as error:
            rendered[name] = str(error)
    asked = {name: listed for name, listed in rendered.items() if isinstance(listed, list)}
    if not asked:
        raise PromptError("no form of asking fits", mend=str(next(iter(rendered.values()))))
    found = bench.try_forms(asked, config.letter)
    tried = [
        _tried(name, found[name], apart) if name in found else Tried(name, 0, None, str(reason))
        for name, reason in rendered.items()
    ]
    return max(tried, key=lambda one: -1.0 if one.accuracy is None else one.accuracy).form, tried


def _sample(
    config: QueriesConfig, by: str, model: Any, form: str, answer: str
) -> tuple[list[Prompt], bool]:
    """A prompt each of what is kept for the choice, and whether anything is."""
    one_each = replace(config, n_prompts=1)
    for sample in (True, False):
        if answer == "letters":
            asking = Form(form, config.shots, model.chat)
            apart = read_apart(one_each, by, shows=asking.has_shots, tries=True)
            listed = list(apart.tried if sample else apart.asked)
            prompts: Mapping[str, Sequence[Prompt]] = (
                render(listed, one_each, asking, apart.shown) if listed else {}
            )
        else:
            read = read_word_queries(one_each, by, model, form, tries=True, sample=sample)
            prompts = read.prompts
        if prompts:
            step = max(1, -(-len(prompts) // SAMPLE))
            return [own[0] for own in list(prompts.values())[::step]], sample
    raise PromptError("there is nothing to ask", form)


def _tried(form: str, found: Sequence[Asked], apart: bool) -> Tried:
    right = [one.prompt for one in found if one.correct]
    return Tried(
        form,
        n=len(found),
        accuracy=len(right) / len(found) if found else 0.0,
        examples=tuple(
            f"{one.prompt.answers[0]}: "
            + (("right" if one.correct else "wrong") if isinstance(one, Letters) else one.said)
            for one in found[:3]
        ),
        apart=apart,
        right=len(right),
        right_shown=sum(prompt.is_shown for prompt in right),
        right_named=sum(prompt.is_named for prompt in right),
    )
