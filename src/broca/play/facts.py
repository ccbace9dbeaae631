"""Facts, questions and prompts of a run to choose from, as texts that can be typed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from broca.errors import PlayError, PromptError
from broca.facts import Fact, Relation
from broca.play.material import Material
from broca.play.state import FactsAsked
from broca.prompts import FORMS, Prompt, render_fact_prompts
from broca.prompts.forms import Chat

LISTED = 50
_STORED = ("run: ", "questions: ")


def groups(material: Material) -> Iterator[tuple[str, int]]:
    """Names of what can be chosen from, with how many there are."""
    for start, prompts in _stored_prompts(material).items():
        yield from Counter(start + group_of(prompt) for prompt in prompts).items()
    for name, relation in material.relations.items():
        yield name, len(relation)


def _stored_prompts(material: Material) -> dict[str, list[Prompt]]:
    """Prompts that are asked as they stand, by how the names of their groups begin."""
    return dict(zip(_STORED, (material.prompts, material.questions), strict=True))


def group_of(prompt: Prompt) -> str:
    """The relation or field of a stored prompt."""
    return prompt.relation or prompt.field or "prompts"


def list_facts(material: Material, asked: FactsAsked) -> list[dict[str, Any]]:
    """Some of a group: label, prompt, answer, form, and lines to show before it.

    Stored prompts are given as they were asked, hence in the form `cloze`.

    Raises:
        PlayError: There is no such group.
    """
    letters = asked.letters.casefold()
    start = next((one for one in _STORED if asked.group.startswith(one)), None)
    if start is not None:
        wanted, prompts = asked.group.removeprefix(start), _stored_prompts(material)[start]
        found = [_stored(prompt) for prompt in prompts if group_of(prompt) == wanted]
    elif asked.group in material.relations:
        relation = material.relations[asked.group]
        facts = [fact for fact in relation.facts if _holds(fact, letters)][:LISTED]
        chat = material.model.chat
        found = [_of_fact(relation, fact, asked.form, chat) for fact in facts]
    else:
        raise PlayError("there are no such facts here", asked.group, "Choose one of the list")
    return [one for one in found if letters in one["label"].casefold()][:LISTED]


def _holds(fact: Fact, letters: str) -> bool:
    return letters in _label(fact.subject, fact.objects[0]).casefold()


def _label(subject: str, answer: str) -> str:
    return f"{subject} → {answer}"


def _stored(prompt: Prompt) -> dict[str, Any]:
    last = prompt.text.strip().splitlines()[-1] if prompt.text.strip() else ""
    label = _label(prompt.subject or last, prompt.answers[0])
    return _entry(label, prompt.text, prompt.answers[0], "cloze", [])


def _of_fact(relation: Relation, fact: Fact, form: str, chat: Chat) -> dict[str, Any]:
    """A fact in the wording drawn for it, before the form puts it."""
    form = form if form in FORMS and form != "few-shot-other" else "question"
    one = Relation(
        relation.name, (fact,), relation.templates, language=relation.language, field=relation.field
    )
    try:
        (prompt,) = render_fact_prompts(one, form=form, demonstrations=relation, chat=chat)
    except PromptError:  # too few facts to show any, or no chat template
        form = "cloze"
        (prompt,) = render_fact_prompts(one, form=form)
    template_set, _, position = prompt.template.rpartition(".")
    wording = relation.wordings(template_set)[int(position)]
    start = prompt.asked_span[0] if prompt.asked_span else 0
    shots = prompt.text[:start].splitlines() if form == "few-shot" else []
    text = wording.replace("{}", fact.subject)
    return _entry(_label(fact.subject, fact.objects[0]), text, fact.objects[0], form, shots)


def _entry(label: str, prompt: str, answer: str, form: str, shots: list[str]) -> dict[str, Any]:
    return {"label": label, "prompt": prompt, "answer": answer, "form": form, "shots": shots}
