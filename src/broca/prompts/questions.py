"""Prompts from questions: with their options, or without them, answered in words.

With options the whole text (instruction, question, options) is what is asked; a demonstration is
another question in the same wording with its right label. Without options the question alone is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from broca.errors import PromptError
from broca.facts.seeding import stable_random
from broca.questions import AskedForm, ChoiceWording, OpenQuestion, Question, load_wordings

from .forms import Chat, Form, join_answer
from .prompt import ChoicePrompt, Prompt

Wordings = Mapping[str, Sequence[ChoiceWording]]
Asked = Question | OpenQuestion
P = TypeVar("P", bound=Prompt)
Q = TypeVar("Q", Question, Asked)


def render_question_prompts(
    questions: Iterable[Question],
    *,
    seed: int = 0,
    n_prompts: int = 3,
    wordings: Wordings | None = None,
    form: str = "question",
    shots: int = 4,
    demonstrations: Iterable[Question] | None = None,
    chat: Chat | None = None,
    role: str = "choice",
) -> list[ChoicePrompt]:
    """Put every question in several wordings, its options shuffled anew in each.

    Ready-made prompts of a question are used as they are. A question with a pool draws its own
    wrong options for every prompt.

    Args:
        questions: The questions.
        seed: Draws shuffles, options and demonstrations, by question id and wording.
        n_prompts: Prompts per question: the first wordings of its language.
        wordings: Language -> wordings that take the place of all others; English ones serve
            languages that are missing.
        form: Form of asking; "question" and "cloze" are the wording as it stands.
        shots: Demonstrations of the few-shot forms.
        demonstrations: Questions they are drawn from; the questions themselves by default.
        chat: Puts a message in the model's chat template (`LanguageModel.chat`); for "chat".
        role: Written into the prompts.

    Raises:
        PromptError: There are no questions, fewer wordings than prompts asked for, no such form,
            or fewer questions than demonstrations.
    """
    questions = list(questions)
    asking, pool = (
        Form(form, shots, chat),
        questions if demonstrations is None else [*demonstrations],
    )
    prompts = []
    for question in questions:
        bare = _choice_prompts(question, seed, n_prompts, wordings, role)
        shown = _shown(asking, question, pool, seed)
        shown = [_choice_prompts(one, seed, n_prompts, wordings, role) for one in shown]
        for number, prompt in enumerate(bare):
            behind = [one[number] for one in shown]
            lines = [join_answer(one.text, one.answers[0]) for one in behind]
            answers = tuple(one.answers[0] for one in behind)
            prompts.append(_in_form(asking, prompt, prompt.text, lines, answers, seed, "\n\n"))
    if not prompts:
        raise PromptError("there are no questions to ask", mend="Check fields and languages")
    return prompts


def render_word_prompts(
    questions: Iterable[Asked],
    *,
    seed: int = 0,
    form: str = "question",
    shots: int = 4,
    demonstrations: Iterable[Asked] | None = None,
    chat: Chat | None = None,
    role: str = "words",
) -> list[Prompt]:
    """Ask questions without their options, to be answered in words.

    Args:
        questions: Questions with options, of which the right one is the answer, or open ones.
        seed: Draws demonstrations, by question id.
        form: Form of asking.
        shots: Demonstrations of the few-shot forms.
        demonstrations: Questions they are drawn from; the questions themselves by default.
        chat: Puts a message in the model's chat template (`LanguageModel.chat`); for "chat".
        role: Written into the prompts.

    Raises:
        PromptError: There are no questions, no such form, or fewer questions than demonstrations.
    """
    questions = list(questions)
    asking, pool = (
        Form(form, shots, chat),
        questions if demonstrations is None else [*demonstrations],
    )
    objects: dict[tuple[str, str], dict[str, None]] = {}
    for one in questions:
        listed = objects.setdefault((_group(one), one.language), {})
        listed |= dict.fromkeys(answers_of(one))
    prompts = []
    for question in questions:
        shown = _shown(asking, question, pool, seed)
        lines = [join_answer(one.question, answers_of(one)[0]) for one in shown]
        prompt = Prompt(
            id=f"{question.id}/words",
            text=question.question,
            answers=answers_of(question),
            relation=question.relation,
            language=question.language,
            template="words",
            fact=question.id,
            field=question.field,
            role=role,
            objects=tuple(objects[_group(question), question.language]),
        )
        text = question.question.rstrip()
        # within a question nothing tells a subject's question mark from its own but the place
        asked = asking.cut(text, max(len(text) - 1, 0))
        answers = tuple(answers_of(one)[0] for one in shown)
        prompts.append(_in_form(asking, prompt, asked, lines, answers, seed, "\n"))
    if not prompts:
        raise PromptError("there are no questions to ask", mend="Check fields and languages")
    return prompts


def answers_of(question: Asked) -> tuple[str, ...]:
    """The right answers of a question, in words."""
    return question.answers if isinstance(question, OpenQuestion) else (question.right,)


def _in_form(
    form: Form,
    prompt: P,
    asked: str,
    lines: Sequence[str],
    shown: tuple[str, ...],
    seed: int,
    gap: str,
) -> P:
    if isinstance(prompt, ChoicePrompt) and form.name == "question":
        return prompt  # its wording has an ending of its own
    placed = form.place(asked, lines, gap)
    return replace(
        prompt,
        id=f"{prompt.id}{form.suffix(seed)}",
        text=placed.text,
        form=form.name,
        asked_span=None if placed.end < 0 else (placed.start, placed.end),
        shown=shown,
    )


def _shown(form: Form, asked: Q, pool: Sequence[Q], seed: int) -> list[Q]:
    """Demonstrations for a question: of its relation (or field), or of others."""
    if not form.has_shots:
        return []
    key = _group(asked)
    same = form.name == "few-shot"
    left = [
        one
        for one in pool
        if (_group(one) == key) == same
        and one.language == asked.language
        and one.id != asked.id
        and one.question != asked.question
    ]
    if len(left) < form.shots:
        where = f"in {key}" if same else "in other fields"
        raise PromptError(
            f"{form.shots} demonstrations are more than there are other questions {where}, "
            f"{len(left)}",
            f"asking {asked.id}",
            "Lower shots, or give more questions",
        )
    return stable_random(seed, "demonstrations", asked.id).sample(left, form.shots)


def _group(question: Asked) -> str:
    return question.relation or question.field


def _choice_prompts(
    question: Question, seed: int, n_prompts: int, given: Wordings | None, role: str
) -> list[ChoicePrompt]:
    if question.asked and given is None:
        forms = [(f"asked.{i}", form) for i, form in enumerate(question.asked)][:n_prompts]
    else:
        chosen = _wordings_of(question, given)[:n_prompts]
        names = [wording.name or str(i) for i, wording in enumerate(chosen, start=1)]
        forms = [(n, _put(question, w, n, seed)) for n, w in zip(names, chosen, strict=True)]
    if len(forms) < n_prompts or n_prompts < 1:
        raise PromptError(
            f"{n_prompts} prompts per question were asked for, there are {len(forms)} wordings",
            f"question {question.id}",
            "Ask for fewer prompts or give more wordings",
        )
    return [
        ChoicePrompt(
            id=f"{question.id}/{template}",
            text=form.text,
            answers=(form.labels[form.answer],),
            relation=question.relation,
            language=question.language,
            template=template,
            fact=question.id,
            field=question.field,
            role=role,
            options=form.options,
            labels=form.labels,
            answer=form.answer,
        )
        for template, form in forms
    ]


def _wordings_of(question: Question, given: Wordings | None) -> Sequence[ChoiceWording]:
    if given is None and question.wordings:
        return question.wordings
    source = load_wordings() if given is None else given
    return source.get(question.language) or source.get("en", ())


def _put(question: Question, wording: ChoiceWording, name: str, seed: int) -> AskedForm:
    """The question in one wording with its options shuffled, and redrawn where it has a pool."""
    rng = stable_random(seed, "choice", question.id, name)
    wrong = [option for option in question.options if option != question.right]
    if question.pool:
        wrong = rng.sample(question.pool, len(wrong))
    options = [question.right, *wrong]
    rng.shuffle(options)
    text = wording.render(question.question, tuple(options), question.labels)
    return AskedForm(text, tuple(options), question.labels, options.index(question.right))
