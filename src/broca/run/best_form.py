"""The form of asking for a single command, where it is to be measured: a few facts in every form.

Studies choose a form on more facts, in a run that keeps what was answered
(`broca.studies.relations.forms`); here nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from broca.errors import PromptError
from broca.facts import Fact, Relation
from broca.facts.seeding import stable_number
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.prompts import FORMS, render_fact_prompts

ASKED = 24  # facts, asked in every form


def find_best_form(
    model: LanguageModel,
    relations: Mapping[str, Relation],
    *,
    shots: int = 4,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
) -> str:
    """The form with the most right answers, of equal ones the first in the order of `FORMS`.

    Args:
        model: The model.
        relations: Facts; a few of them are asked, demonstrations are drawn from the others.
        shots: Demonstrations of the few-shot forms.
        seed: Draws facts and demonstrations.
        tell: Told how many answers were right in each form, and which forms could not be asked.

    Raises:
        PromptError: No form can be asked.
    """
    drawn = _draw(relations, shots, seed)
    taken = {fact.id for fact in drawn}
    asked = {
        name: replace(relation, facts=tuple(f for f in relation.facts if f.id in taken))
        for name, relation in relations.items()
    }
    left = {
        name: replace(relation, facts=tuple(f for f in relation.facts if f.id not in taken))
        for name, relation in relations.items()
    }
    right: dict[str, int] = {}
    failed: list[str] = []
    for form in FORMS:
        try:
            prompts = render_fact_prompts(
                asked, form=form, shots=shots, demonstrations=left, chat=model.chat, seed=seed
            )
        except PromptError as error:
            failed.append(f"{form} ({error.what})")
            continue
        rows = answer_prompts(model, prompts, {"untouched": None}, with_log_p=False)
        right[form] = sum(row.correct for row in rows)
    if not right:
        raise PromptError("no form of asking fits these facts", mend="Name one")
    best = max(right, key=lambda form: right[form])
    if tell is not None:
        listed = ", ".join(f"{form} {n}" for form, n in right.items())
        left_out = f" Not tried: {', '.join(failed)}." if failed else ""
        tell(
            f"Right answers to {len(drawn)} facts by form of asking: {listed}. "
            f"Taken: {best}.{left_out}"
        )
    return best


def _draw(relations: Mapping[str, Relation], shots: int, seed: int) -> list[Fact]:
    """Facts to ask; a relation keeps enough to be shown, or few-shot could not be tried at all."""
    order = sorted(
        (fact for relation in relations.values() for fact in relation.facts),
        key=lambda fact: (stable_number(seed, "form", fact.id), fact.id),
    )
    left = {name: len(relation.facts) for name, relation in relations.items()}
    drawn: list[Fact] = []
    for fact in order:
        if left[fact.relation] > shots and len(drawn) < ASKED:
            left[fact.relation] -= 1
            drawn.append(fact)
    return drawn or order[:ASKED]
