"""Making options: from the facts of a relation, or for questions that have only an answer.

From facts: the question is a wording of the fact without its ending. Wrong options never contain
a right object of the same subject.

* `distractors="relation"`: objects of other subjects in the same relation.
* `distractors="subject"`: first what the subject's **other** relations say (who made it, where it
  is), so that the relation has to be understood; then the relation's own objects to fill up.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from broca.errors import QuestionsError
from broca.facts import Fact, Relation, Relations
from broca.facts.seeding import stable_random

from .question import Question, check_distinct, choose_per_field
from .wordings import ChoiceWording

Distractors = Literal["relation", "subject"]

# wrong answers kept per question for redrawing: ample for a few prompts, small in files
POOL_SIZE = 32


def build_questions(
    relations: Relations,
    *,
    n_options: int = 4,
    distractors: Distractors = "relation",
    per_field: int | None = None,
    template_set: str = "finding",
    redraw: bool = False,
    wordings: Mapping[str, tuple[ChoiceWording, ...]] | None = None,
    seed: int = 0,
) -> list[Question]:
    """One question per fact; its field is the relation's field.

    Args:
        relations: Facts in one language.
        n_options: Options per question.
        distractors: Where wrong options come from (see above).
        per_field: At most so many questions per field, drawn by seed; None for all facts.
        template_set: Wordings of the facts to ask with.
        redraw: Give each question a pool of wrong answers, of which every prompt draws its own.
        wordings: Language -> wordings to put the question in; our own by default.
        seed: Draws wordings, options and questions.

    Raises:
        QuestionsError: Unknown kind of distractors, or too few different objects for the options.
    """
    _check_number(n_options)
    if distractors not in ("relation", "subject"):
        mend = 'Use "relation" or "subject"'
        raise QuestionsError("unknown kind of distractors", f"{distractors!r}", mend)
    elsewhere = _objects_by_subject(relations) if distractors == "subject" else {}
    questions = []
    for relation in relations.values():
        objects = dict.fromkeys(o for fact in relation.facts for o in fact.objects)
        for fact in relation.facts:
            wrong = [o for o in objects if o not in fact.objects]
            first = [
                o
                for name, o in elsewhere.get(fact.subject, ())
                if name != relation.name and o not in fact.objects
            ]
            asked = _ask(relation, fact, template_set, seed, wordings or {})
            # drawn by fact id, so that a fact's options correspond in all languages
            rng = stable_random(seed, "options", fact.id)
            questions.append(_with_options(asked, wrong, n_options, redraw, rng, first))
    return check_distinct(choose_per_field(questions, per_field, seed))


def _objects_by_subject(relations: Relations) -> dict[str, list[tuple[str, str]]]:
    by_subject: dict[str, list[tuple[str, str]]] = {}
    for fact in relations.facts:
        by_subject.setdefault(fact.subject, []).extend((fact.relation, o) for o in fact.objects)
    return by_subject


def _ask(
    relation: Relation,
    fact: Fact,
    template_set: str,
    seed: int,
    wordings: Mapping[str, tuple[ChoiceWording, ...]],
) -> OpenQuestion:
    wording = relation.wordings(template_set)[relation.choose_wording(fact, template_set, seed)]
    return OpenQuestion(
        id=f"{fact.id}@{relation.language}",
        question=wording.replace("{}", fact.subject),
        answers=fact.objects,
        field=relation.field or relation.name,
        language=relation.language,
        relation=relation.name,
        wordings=tuple(wordings.get(relation.language, ())),
    )


@dataclass(frozen=True)
class OpenQuestion:
    """A question with right answers and no options yet.

    Attributes:
        answers: Right answers; the first becomes the right option, none becomes a wrong one.
        distractors: Wrong answers supplied with it; drawn from the field when there are none.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    field: str
    language: str = "en"
    relation: str = ""
    distractors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    wordings: tuple[ChoiceWording, ...] = ()


def close_questions(
    questions: Iterable[OpenQuestion],
    *,
    others: Iterable[OpenQuestion] = (),
    n_options: int = 4,
    redraw: bool = False,
    seed: int = 0,
) -> list[Question]:
    """Give free-form questions options, for the multiple-choice proxy.

    Wrong options are the question's own distractors or, without any, right answers of other
    questions of the same field and language.

    Args:
        questions: Questions with their right answers.
        others: Questions that are not closed themselves, but whose answers serve as wrong ones.
        n_options: Options per question.
        redraw: Every prompt of a question draws its own wrong options.
        seed: Draws the options.

    Raises:
        QuestionsError: The field has too few different answers for the options.
    """
    _check_number(n_options)
    kept = list(questions)
    answers: dict[tuple[str, str], dict[str, None]] = {}
    # what is right for one question text is never wrong for the same text on another row
    right: dict[tuple[str, str], set[str]] = {}
    for q in (*kept, *others):
        answers.setdefault((q.field, q.language), {}).update(dict.fromkeys(q.answers))
        right.setdefault((q.language, q.question), set()).update(q.answers)
    closed = []
    for q in kept:
        candidates = q.distractors or tuple(answers[q.field, q.language])
        wrong = [o for o in candidates if o not in right[q.language, q.question]]
        rng = stable_random(seed, "options", q.id)
        closed.append(_with_options(q, wrong, n_options, redraw, rng))
    return closed


def _with_options(
    question: OpenQuestion,
    wrong: Iterable[str],
    n_options: int,
    redraw: bool,
    rng: random.Random,
    first: Iterable[str] = (),
) -> Question:
    """Options from `first` as far as they go, then from `wrong`, and the right one among them."""
    first, wrong = list(dict.fromkeys(first)), list(dict.fromkeys(wrong))
    drawn = rng.sample(first, min(n_options - 1, len(first)))
    rest = [o for o in wrong if o not in drawn]
    missing = n_options - 1 - len(drawn)
    if len(rest) < missing:
        raise QuestionsError(
            f"{len(drawn) + len(rest)} wrong answers are too few for {n_options} options",
            f"question {question.id}",
            "Ask for fewer options, or supply distractors",
        )
    options = [question.answers[0], *drawn, *rng.sample(rest, missing)]
    rng.shuffle(options)
    pool = list(dict.fromkeys((*first, *wrong))) if redraw else []
    pool = rng.sample(pool, min(max(POOL_SIZE, n_options), len(pool)))
    return Question(
        id=question.id,
        question=question.question,
        options=tuple(options),
        answer=options.index(question.answers[0]),
        field=question.field,
        language=question.language,
        labels=question.labels,
        relation=question.relation,
        pool=tuple(pool),
        wordings=question.wordings,
    )


def _check_number(n_options: int) -> None:
    if n_options < 2:
        raise QuestionsError("a question needs at least two options", f"n_options={n_options}")
