"""The form of asking for a single command, where it is to be measured: a few facts in every form.

Studies choose a form on more facts, in a run that keeps what was answered
(`broca.studies.relations.forms`); here nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from broca.errors import PromptError
from broca.facts import Relation
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
        tell: Told how many answers were right in each form.

    Raises:
        PromptError: No form can be asked.
    """
    drawn = sorted(
        (fact for relation in relations.values() for fact in relation.facts),
        key=lambda fact: (stable_number(seed, "form", fact.id), fact.id),
    )[:ASKED]
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
    for form in FORMS:
        try:
            prompts = render_fact_prompts(
                asked, form=form, shots=shots, demonstrations=left, chat=model.chat, seed=seed
            )
        except PromptError:
            continue
        rows = answer_prompts(model, prompts, {"untouched": None}, with_log_p=False)
        right[form] = sum(row.correct for row in rows)
    if not right:
        raise PromptError("no form of asking fits these facts", mend="Name one")
    best = max(right, key=lambda form: right[form])
    if tell is not None:
        listed = ", ".join(f"{form} {n}" for form, n in right.items())
        tell(f"Right answers to {len(drawn)} facts by form of asking: {listed}. Taken: {best}.")
    return best
