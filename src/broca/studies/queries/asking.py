"""Questions into prompts: in a form of asking, or without their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broca.errors import QuestionsError
from broca.facts.seeding import stable_number
from broca.prompts import ChoicePrompt, Form, Prompt, render_question_prompts
from broca.questions import Question, load_questions
from broca.questions.question import choose_per_field
from broca.studies.queries.apart import Apart, set_apart
from broca.studies.queries.config import QueriesConfig

BY = ("field", "language")


def read_questions(config: QueriesConfig, by: str) -> list[Question]:
    """The questions of a study: by field in one language, or by language in several.

    By field the language is the first one named, or else the first one there: a question and its
    translations are no independent queries.

    Raises:
        QuestionsError: They cannot be read or used, or "language" finds one language only.
    """
    languages = config.languages
    if by == "field" and languages is not None:
        languages = languages[:1]
    questions = _load(config, languages)
    if by == "field":
        return [question for question in questions if question.language == questions[0].language]
    return _by_language(questions, config)


def read_domains(config: QueriesConfig) -> dict[str, str]:
    """Question id -> its field of knowledge, also where a study's fields are languages.

    Raises:
        QuestionsError: The questions cannot be read or used.
    """
    return {question.id: question.field for question in _load(config, config.languages)}


def _load(config: QueriesConfig, languages: Sequence[str] | None) -> list[Question]:
    return load_questions(
        config.questions,
        languages=languages,
        fields=config.fields,
        per_field=config.per_field,
        columns=config.columns,
        answer_kind=config.answer_kind,
        n_options=config.n_options,
        distractors=config.distractors,
        redraw=config.redraw,
        seed=config.seed,
    )


def _by_language(questions: Sequence[Question], config: QueriesConfig) -> list[Question]:
    """Questions with their language as field, as many of each; the same facts where possible."""
    by_language: dict[str, list[Question]] = {}
    for question in questions:
        by_language.setdefault(question.language, []).append(question)
    if len(by_language) < 2:
        raise QuestionsError(
            "questions of two languages are needed, there is one",
            ", ".join(by_language),
            "Name several with languages, or leave out the study queries.languages",
        )
    kept: list[Question] = []
    for language, listed in by_language.items():
        # ids end in "@" and the language, so that all languages draw the same facts
        listed.sort(key=lambda q: stable_number(config.seed, q.base))
        kept += [replace(q, field=language) for q in listed[: config.per_language]]
    return kept


def read_apart(config: QueriesConfig, by: str, *, shows: bool, tries: bool) -> Apart[Question]:
    """The questions of a study, those shown before them, and those a form is chosen on.

    Args:
        config: The settings.
        by: "field" or "language".
        shows: Whether questions are shown before the asked ones.
        tries: Whether a form is chosen.

    Raises:
        QuestionsError: They cannot be read or used, or "language" finds one language only.
    """
    if not (shows or tries):
        return Apart(read_questions(config, by))
    every = read_questions(replace(config, per_field=None, per_language=None), by)
    alike: dict[tuple[str, str], list[Question]] = {}
    # by fact: the same in all languages
    for question in sorted(every, key=lambda one: stable_number(config.seed, one.base)):
        alike.setdefault((question.field, question.relation), []).append(question)
    parts = [set_apart(listed, shows=shows, tries=tries) for listed in alike.values()]
    limit = config.per_field if by == "field" else config.per_language
    asked = choose_per_field((one for part in parts for one in part.asked), limit, config.seed)
    kept = {question.id for question in asked}
    return Apart(
        [question for question in every if question.id in kept],
        [one for part in parts for one in part.shown],
        [one for part in parts for one in part.tried],
    )


def render(
    questions: Sequence[Question],
    config: QueriesConfig,
    form: Form,
    shown: Sequence[Question] = (),
) -> dict[str, tuple[ChoicePrompt, ...]]:
    """Question id -> its prompts.

    Args:
        questions: The questions.
        config: The settings.
        form: Form of asking; "question" and "cloze" are the wording as it stands.
        shown: Questions that demonstrations are drawn from.

    Raises:
        PromptError: Fewer wordings than prompts, no chat template, or too few to show.
    """
    prompts = render_question_prompts(
        questions,
        seed=config.seed,
        n_prompts=config.n_prompts,
        form=form.name,
        shots=form.shots,
        demonstrations=shown,
        chat=form.chat,
    )
    found: dict[str, list[ChoicePrompt]] = {}
    for prompt in prompts:
        found.setdefault(prompt.fact, []).append(prompt)
    return {query: tuple(listed) for query, listed in found.items()}


def free_form(question: Question) -> Prompt:
    """The question without options, in the manner of fact prompts; its answer is the right one."""
    text = question.question.rstrip()
    text += " Answer:" if text[-1:] in "?？؟" else "? Answer:"
    return Prompt(
        id=f"{question.id}/free",
        text=text,
        answers=(question.right,),
        relation=question.relation,
        language=question.language,
        template="free",
        fact=question.id,
        field=question.field,
        role="free-form",
    )
