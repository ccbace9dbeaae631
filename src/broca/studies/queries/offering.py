"""What a model is offered to choose from, for the prediction by neurons: letters, or answers.

Letters: the options of each question, by their labels. Words: the right answers of a field's
queries, the same for all of its prompts; the model's own choice is the one it gives most
probability. A query that has none of them as its answer, or two, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from broca.choices import Letters, Words
from broca.errors import PromptError
from broca.model import LanguageModel
from broca.prediction import BORDERS, render_options
from broca.prompts import Prompt
from broca.studies.queries.material import Part, QueryBench

MOST_CANDIDATES = 12  # answers a field's queries are told from

Halves = tuple[tuple[str, ...], tuple[str, ...]]
"""Detection and held-out queries."""


@dataclass(frozen=True)
class Offered:
    """One prompt with what it may be answered by.

    Attributes:
        prompt: The prompt.
        n: Number of options.
        right: Position of the right one.
        chosen: Position of the one the model prefers; None where a row of the run tells it.
        answered: The prompt with each option put as the answer.
    """

    prompt: Prompt
    n: int
    right: int
    chosen: int | None
    answered: tuple[Prompt, ...]


def offer(part: Part, halves: Mapping[str, Halves], bench: QueryBench) -> list[Offered]:
    """All prompts of some fields with what they may be answered by.

    Raises:
        PromptError: An option cannot be put as the answer.
    """
    return [
        one
        for half in halves.values()
        for one in (_letters if part.answer == "letters" else _words)(part, half, bench)
    ]


def _letters(part: Part, half: Halves, bench: QueryBench) -> Iterator[Offered]:
    for query in (*half[0], *half[1]):
        for one in part.asked[query]:
            assert isinstance(one, Letters)
            prompts = tuple(render_options(bench.model, [one]))
            yield Offered(one.prompt, len(prompts), one.prompt.answer, None, prompts)


def _words(part: Part, half: Halves, bench: QueryBench) -> Iterator[Offered]:
    answers = candidates(part, half)
    asked: list[tuple[Prompt, int]] = []
    for query in (*half[0], *half[1]):
        for one in part.asked[query]:
            right = [i for i, answer in enumerate(answers) if answer in one.prompt.answers]
            if len(right) == 1:
                asked.append((one.prompt, right[0]))
    put = [
        replace(prompt, id=f"{prompt.id}/candidate.{i}", answers=(answer,), role="answered")
        for prompt, _ in asked
        for i, answer in enumerate(answers)
    ]
    found = bench.find_words(put)
    for place, (prompt, right) in enumerate(asked):
        own = found[place * len(answers) : (place + 1) * len(answers)]
        chosen = int(np.argmax([one.p for one in own]))
        answered = tuple(as_answered(bench.model, one) for one in own)
        yield Offered(prompt, len(answers), right, chosen, answered)


def candidates(part: Part, half: Halves) -> list[str]:
    """Right answers of a field's queries, those of held-out ones first, sorted by name."""
    rights = dict.fromkeys(part.questions[query].right for query in (*half[1], *half[0]))
    return sorted(list(rights)[:MOST_CANDIDATES])


def as_answered(model: LanguageModel, one: Words) -> Prompt:
    """A prompt with its answer behind it, as the very tokens that are measured.

    Raises:
        PromptError: No text has these tokens.
    """
    for border in BORDERS.values():
        text = one.prompt.text + border + one.prompt.answers[0]
        if tuple(model.tokenize(text)) == (*one.tokens, *one.target):
            return replace(one.prompt, text=text, answers=(), asked_span=None)
    raise PromptError(
        f"The answer {one.prompt.answers[0]!r} cannot be put behind this prompt", one.prompt.id
    )


def rows_of(offered: Sequence[Offered], queries: Sequence[str]) -> list[tuple[Offered, range]]:
    """The prompts of some queries, each with its rows among all answered prompts."""
    wanted, start, found = set(queries), 0, []
    for one in offered:
        if one.prompt.fact in wanted:
            found.append((one, range(start, start + one.n)))
        start += one.n
    return found
