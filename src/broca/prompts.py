"""Prompts: the texts a model is given, with the answers that are right.

A fact prompt is a wording with its subject and, by default, the ending of METHODS' papers:

* a wording without a question mark gets `? Answer:` ("NVIDIA's CEO is? Answer:");
* a wording that ends in a question mark gets ` Answer:`;
* a wording that goes on after its question mark ("Who is the CEO of {}? Their name is") begins
  an answer of its own; the ending takes its place ("Who is the CEO of NVIDIA? Answer:").

Without the ending a wording stays as it is. The ending is the same in every language.
Which wording a fact gets depends on seed and fact id alone, never on the order of facts.

Source: arXiv 2502.17355, section 3 (ending); arXiv 2406.10868, section 3 (choice prompts).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broca.errors import PromptError
from broca.facts import Fact, Relation
from broca.facts.seeding import stable_random
from broca.questions import AskedForm, ChoiceWording, Question, load_wordings

_QUESTION_MARK = re.compile(r"[?？؟]")


@dataclass(frozen=True)
class Prompt:
    """One text and its right answers.

    Attributes:
        id: Unique and the same in every run: fact or question, language, wording, ending.
        text: Raw text without space at its end.
        answers: Right answers, without space at their start.
        subject: Subject of the fact, "" for questions of files.
        relation: Relation of the fact or question.
        language: Language of the wording.
        template: Wording used, as `set.position` or its name.
        fact: Id of the fact or question.
        field: Field of knowledge.
        role: What the prompt is for ("detection", "evaluation", "choice", ...).
        subject_span: Where the subject stands in the text, as (start, end) in characters.
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


def render_fact_prompts(
    relations: Relation | Mapping[str, Relation],
    *,
    template_set: str = "finding",
    seed: int = 0,
    ending: bool = True,
    role: str = "",
    every_wording: bool = False,
) -> list[Prompt]:
    """Ask for every fact once, in a wording drawn for it.

    Args:
        relations: One relation or several.
        template_set: Which wordings.
        seed: Draws the wordings.
        ending: Whether to add the ending (see above).
        role: Written into the prompts.
        every_wording: Ask for every fact in every wording of the set instead.

    Raises:
        FactsError: A relation lacks the template set.
        PromptError: There are no facts.
    """
    several = [relations] if isinstance(relations, Relation) else list(relations.values())
    prompts = []
    for relation in several:
        every = range(len(relation.wordings(template_set)))
        for fact in relation.facts:
            drawn = [relation.choose_wording(fact, template_set, seed)]
            for position in every if every_wording else drawn:
                prompts.append(_fact_prompt(relation, fact, template_set, position, ending, role))
    if not prompts:
        raise PromptError("there are no facts to ask for", mend="Check relations and their split")
    return prompts


def _fact_prompt(
    relation: Relation, fact: Fact, template_set: str, position: int, ending: bool, role: str
) -> Prompt:
    wording = relation.wordings(template_set)[position]
    before, after = (add_ending(wording) if ending else wording).split("{}")
    template = f"{template_set}.{position}"
    return Prompt(
        id=f"{fact.id}/{relation.language}/{template}{'' if ending else '/plain'}",
        text=(before + fact.subject + after).rstrip(),
        answers=fact.objects,
        subject=fact.subject,
        relation=relation.name,
        language=relation.language,
        template=template,
        fact=fact.id,
        field=relation.field,
        role=role,
        subject_span=(len(before), len(before) + len(fact.subject)),
    )


def add_ending(wording: str) -> str:
    """A wording with the ending `? Answer:`, without asking twice."""
    slot = wording.index("{}")
    marks = [match.end() for match in _QUESTION_MARK.finditer(wording, slot)]
    return f"{wording[: marks[-1]]} Answer:" if marks else f"{wording}? Answer:"


def render_question_prompts(
    questions: Iterable[Question],
    *,
    seed: int = 0,
    n_prompts: int = 3,
    wordings: Mapping[str, Sequence[ChoiceWording]] | None = None,
    role: str = "choice",
) -> list[ChoicePrompt]:
    """Put every question in several wordings, its options shuffled anew in each.

    Ready-made prompts of a question are used as they are. A question with a pool draws its own
    wrong options for every prompt. Chat markup is added later, by the model's tokenizer.

    Args:
        questions: The questions.
        seed: Draws shuffles and options, by question id and wording.
        n_prompts: Prompts per question: the first wordings of its language.
        wordings: Language -> wordings that take the place of all others; English ones serve
            languages that are missing.
        role: Written into the prompts.

    Raises:
        PromptError: There are no questions, or fewer wordings than prompts asked for.
    """
    prompts = [
        prompt
        for question in questions
        for prompt in _question_prompts(question, seed, n_prompts, wordings, role)
    ]
    if not prompts:
        raise PromptError("there are no questions to ask", mend="Check fields and languages")
    return prompts


def _question_prompts(
    question: Question,
    seed: int,
    n_prompts: int,
    given: Mapping[str, Sequence[ChoiceWording]] | None,
    role: str,
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


def _wordings_of(
    question: Question, given: Mapping[str, Sequence[ChoiceWording]] | None
) -> Sequence[ChoiceWording]:
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
