"""Which queries are kept: those the model answers rightly, in fields that keep enough of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from broca.choices import Words
from broca.errors import QuestionsError
from broca.prompts import ChoicePrompt
from broca.questions import Question
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.locating import Asked


def most_frequent_answer(questions: Iterable[Question]) -> dict[str, str]:
    """Field -> the right answer that most of its questions have: what guessing would say."""
    counts: dict[str, Counter[str]] = {}
    for question in questions:
        counts.setdefault(question.field, Counter())[question.right] += 1
    return {field: here.most_common(1)[0][0] for field, here in counts.items()}


@dataclass(frozen=True)
class Screened:
    """One query that the model was asked.

    Attributes:
        query: Its id.
        field: Its field.
        base: The id that its versions in other languages share.
        right: Share of its prompts answered rightly.
        guess: What guessing reaches: one in as many as there are letters; in words 1 where the
            right answer is the one that most queries of the field have, else 0.
    """

    query: str
    field: str
    base: str
    right: float
    guess: float


def screen(
    questions: Mapping[str, Question], asked: Mapping[str, Sequence[Asked]]
) -> list[Screened]:
    """How the untouched model answered every query."""
    usual = most_frequent_answer(questions.values())
    found = []
    for query, question in questions.items():
        prompts = asked[query]
        if isinstance(prompts[0].prompt, ChoicePrompt):
            guess = 1 / len(question.options)
        else:
            guess = float(usual[question.field] in prompts[0].prompt.answers)
        right = float(np.mean([one.correct for one in prompts]))
        found.append(Screened(query, question.field, question.base, right, guess))
    return found


def keep_known(
    config: QueriesConfig,
    by: str,
    answer: str,
    questions: Mapping[str, Question],
    screened: Sequence[Screened],
    wrote: str = "",
) -> tuple[list[str], dict[str, str]]:
    """The queries that studies use, in the order of the questions, and fields left out.

    Args:
        config: The settings.
        by: "field" or "language".
        answer: "letters" or "words".
        questions: All that were asked.
        screened: How they were answered.
        wrote: What an error tells of the forms asked in and of what was answered instead.

    Raises:
        QuestionsError: Nothing is left.
    """
    only_right = config.only_right if config.only_right is not None else answer == "words"
    if answer == "letters" and not only_right:
        return list(questions), {}
    limit = config.per_field if by == "field" else config.per_language
    by_field: dict[str, list[str]] = {}
    for one in screened:
        listed = by_field.setdefault(one.field, [])
        if (one.right == 1 or not only_right) and (limit is None or len(listed) < limit):
            listed.append(one.query)
    least = config.min_right if only_right else 1
    left_out = {
        field: f"{len(listed)} of {sum(one.field == field for one in screened)} queries are "
        f"answered rightly, fewer than {least}"
        for field, listed in by_field.items()
        if len(listed) < least
    }
    fields = [field for field in by_field if field not in left_out]
    if config.max_fields is not None:
        share = {field: _share_right(screened, field) for field in fields}
        best = sorted(fields, key=lambda field: -share[field])[: config.max_fields]
        left_out |= {
            field: f"{share[field]:.0%} of its queries are answered rightly: {config.max_fields} "
            "others are known as well or better (max_fields)"
            for field in fields
            if field not in best
        }
    if len(left_out) == len(by_field):
        asked = len(screened)
        right = sum(one.right == 1 for one in screened)
        raise QuestionsError(
            f"the model answers {right} of {asked} queries rightly: no field keeps {least}",
            "; ".join(filter(None, (wrote, f"fields {', '.join(list(by_field)[:8])}"))),
            "Use another form of asking, easier facts, more of them (n_asked), or "
            "only_right = false",
        )
    kept = {q for field, listed in by_field.items() if field not in left_out for q in listed}
    return [query for query in questions if query in kept], left_out


def what_it_wrote(asked: Mapping[str, Sequence[Asked]], n: int = 3) -> str:
    """What was said instead of the right answer, in a few cases of different fields."""
    wrong: dict[str, str] = {}
    for one in (one for listed in asked.values() for one in listed):
        if not one.correct and isinstance(one, Words):
            wrong.setdefault(
                one.prompt.field,
                f"{one.prompt.last_line!r} was followed by {one.said!r} "
                f"(right: {one.prompt.answers[0]})",
            )
    return "; ".join(list(wrong.values())[:n])


def _share_right(screened: Sequence[Screened], field: str) -> float:
    """Share of a field's queries that are answered rightly, those beyond its limit included."""
    right = [one.right == 1 for one in screened if one.field == field]
    return sum(right) / len(right)
