"""What the query studies need, checked before the model is loaded.

Questions are read, and a study by language finds several languages in them, before anything is
attributed: a refusal after minutes of work would forfeit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from broca.attributions.rules import AUTO_LIMIT, DEFAULT_STEPS, fixed_rule, nested_rules
from broca.errors import QuestionsError, RecipeError
from broca.facts.shipped import facts_for
from broca.prompts.forms import check_shots
from broca.questions import require_several_fields
from broca.studies.queries.asking import read_questions
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.facts import by_language, choose_source
from broca.studies.queries.forms import form_of
from broca.studies.queries.material import check_fields

ANSWERS = {"auto": ("letters", "words")}
LEAST = 3
"""Queries that inverse cluster attribution compares at least."""


def check_needs(config: QueriesConfig, studies: Sequence[Any], *, embedded: bool) -> None:
    """Refuse what could not be studied, as far as it shows without the model.

    Args:
        config: The settings.
        studies: The studies to be made.
        embedded: Whether the model is the embedded one.

    Raises:
        AttributionError: The rule of integration cannot have so many nodes.
        RecipeError: A setting would be without effect.
        QuestionsError: The questions cannot be used, or a study by language finds one only.
        FactsError: The facts cannot be used.
    """
    if config.method == "auto":
        nested_rules(config.n_steps or AUTO_LIMIT)
    else:
        fixed_rule(config.method, config.n_steps or DEFAULT_STEPS)
    needed = {
        (getattr(study, "by", "field"), getattr(study, "answer", None) or config.answer)
        for study in studies
    }
    _refuse_unused(config, {answer for _, answer in needed}, embedded)
    config = replace(config, questions=facts_for(config.questions, embedded=embedded))
    for by, answer in sorted(needed):
        source = choose_source(config, embedded=embedded)
        if answer == "letters" or source == "questions":
            _check_questions(config, by, studies)
        elif answer == "words":
            by_language(source, config, by)
        else:  # "auto" asks in words where there are no questions to choose letters in
            try:
                _check_questions(config, by, studies)
            except QuestionsError:
                by_language(source, config, by)


def _refuse_unused(config: QueriesConfig, answers: set[str], embedded: bool) -> None:
    """Settings that nothing would read, where they are not what they are by default."""
    if answers == {"words"} and config.chat_template:
        raise RecipeError(
            "chat_template is for letters, and answers are asked in words",
            "chat_template = true",
            'Use form = "chat"',
        )
    for name in ("facts", "fields_are", "n_asked"):
        value = getattr(config, name)
        if answers == {"letters"} and value != getattr(QueriesConfig, name):
            raise RecipeError(
                f"{name} is for answers in words, and letters are asked",
                f"{name} = {value!r}",
                f'Leave {name} out, or set answer = "words" or "auto"',
            )
    kinds = {kind for answer in answers for kind in ANSWERS.get(answer, (answer,))}
    check_shots([form_of(config, kind, embedded=embedded) for kind in kinds], config.shots)


def _check_questions(config: QueriesConfig, by: str, studies: Sequence[Any]) -> None:
    questions = read_questions(config, by)
    check_fields(question.field for question in questions)
    if len(questions) < LEAST:
        raise QuestionsError(
            f"{len(questions)} questions are too few",
            config.questions,
            f"Neurons of one are told from those of others: give at least {LEAST}",
        )
    for study in studies:
        compares = getattr(study, "several_fields", False)
        if compares and getattr(study, "by", "field") == by:
            require_several_fields(questions)
