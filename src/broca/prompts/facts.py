"""Prompts from facts: a wording with its subject, in one of the forms of asking.

Which wording a fact gets depends on seed and fact id alone, never on the order of facts.
Demonstrations are drawn for every fact by seed and fact id from the facts given for it, never of
the asked subject, and without regard to objects: the asked fact's answer may stand among them, so
that neither copying nor elimination tells it (`Prompt.shown` holds their answers, for who wants
to look apart). Demonstrations with four different objects teach that no answer comes twice:
SmolLM2-135M then answered 2 of 24 continents rightly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broca.errors import PromptError
from broca.facts import Fact, Relation
from broca.facts.seeding import stable_number, stable_random

from .forms import Chat, Form, join_answer
from .prompt import Prompt

Several = Relation | Mapping[str, Relation]


def render_fact_prompts(
    relations: Several,
    *,
    template_set: str = "finding",
    form: str = "question",
    shots: int = 4,
    demonstrations: Several | None = None,
    chat: Chat | None = None,
    seed: int = 0,
    role: str = "",
    every_wording: bool = False,
) -> list[Prompt]:
    """Ask for every fact once, in a wording drawn for it.

    Args:
        relations: One relation or several.
        template_set: Which wordings.
        form: Form of asking; see :data:`broca.prompts.FORMS`.
        shots: Demonstrations of the few-shot forms.
        demonstrations: Facts they are drawn from, by relation; those of `relations` by default.
            Studies give detection facts.
        chat: Puts a message in the model's chat template (`LanguageModel.chat`); for "chat".
        seed: Draws wordings and demonstrations.
        role: Written into the prompts.
        every_wording: Ask for every fact in every wording of the set instead.

    Raises:
        FactsError: A relation lacks the template set.
        PromptError: There are no facts, no such form, or fewer facts than demonstrations.
    """
    several = _listed(relations)
    pool = {
        one.name: one for one in _listed(relations if demonstrations is None else demonstrations)
    }
    asking = _Asking(Form(form, shots, chat), template_set, seed, pool)
    prompts = []
    for relation in several:
        wordings = relation.wordings(template_set)
        suited = asking.form.candidates(wordings)
        for fact in relation.facts:
            drawn = [suited[stable_number(seed, fact.id) % len(suited)]]
            for position in range(len(wordings)) if every_wording else drawn:
                prompts.append(_fact_prompt(asking, relation, fact, position, role))
    if not prompts:
        raise PromptError("there are no facts to ask for", mend="Check relations and their split")
    return prompts


def _listed(relations: Several) -> list[Relation]:
    return [relations] if isinstance(relations, Relation) else list(relations.values())


class _Asking:
    """What is the same for all prompts of one call."""

    def __init__(
        self, form: Form, template_set: str, seed: int, pool: Mapping[str, Relation]
    ) -> None:
        self.form = form
        self.template_set = template_set
        self.seed = seed
        self.pool = pool

    def lines(self, relation: Relation, fact: Fact, position: int) -> tuple[list[str], list[str]]:
        """Demonstrations before a fact, and their answers."""
        if not self.form.has_shots:
            return [], []
        if self.form.name == "few-shot":
            source = self.pool.get(relation.name)
            facts = source.facts if source else ()
            shown = draw_demonstrations(facts, fact, self.form.shots, self.seed)
            wordings = [relation.wordings(self.template_set)[position]] * len(shown)
        else:
            shown = self._of_others(relation, fact)
            wordings = [self._wording(one) for one in shown]
        lines = [
            join_answer(wording.replace("{}", one.subject), one.objects[0])
            for wording, one in zip(wordings, shown, strict=True)
        ]
        return lines, [one.objects[0] for one in shown]

    def _of_others(self, relation: Relation, fact: Fact) -> list[Fact]:
        """A fact each of relations drawn for the asked one, relations again where they are few."""
        rng = stable_random(self.seed, "other demonstrations", fact.id)
        # wordings of another language show nothing of this one's
        names = sorted(
            name
            for name, other in self.pool.items()
            if name != relation.name and other.language == relation.language
        )
        rng.shuffle(names)
        found: list[Fact] = []
        while names and len(found) < self.form.shots:
            before = len(found)
            for name in names[: self.form.shots - len(found)]:
                known = {one.id for one in found}
                left = [f for f in _others(self.pool[name].facts, fact) if f.id not in known]
                found += [rng.choice(left)] if left else []
            if len(found) == before:
                break
        if len(found) < self.form.shots:
            raise _too_few(len(found), self.form.shots, fact, "in other relations")
        return found

    def _wording(self, fact: Fact) -> str:
        wordings = self.pool[fact.relation].wordings(self.template_set)
        suited = self.form.candidates(wordings)
        return wordings[suited[stable_number(self.seed, fact.id) % len(suited)]]


def draw_demonstrations(facts: Sequence[Fact], asked: Fact, shots: int, seed: int) -> list[Fact]:
    """Facts to show before one is asked for: of other subjects, whatever their objects.

    Args:
        facts: Where they are drawn from.
        asked: The fact that is asked for.
        shots: How many.
        seed: Draws them, with the asked fact's id.

    Raises:
        PromptError: There are too few.
    """
    others = _others(facts, asked)
    if len(others) < shots:
        raise _too_few(len(others), shots, asked, f"in {asked.relation}")
    return stable_random(seed, "demonstrations", asked.id).sample(others, shots)


def _others(facts: Sequence[Fact], asked: Fact) -> list[Fact]:
    subject = asked.subject.casefold()
    return [fact for fact in facts if fact.subject.casefold() != subject]


def _too_few(n: int, shots: int, asked: Fact, where: str) -> PromptError:
    return PromptError(
        f"{shots} demonstrations are more than there are facts of other subjects {where}, {n}",
        f"asking for {asked.id}",
        "Lower shots, or give more facts",
    )


def _fact_prompt(
    asking: _Asking, relation: Relation, fact: Fact, position: int, role: str
) -> Prompt:
    form = asking.form
    before, after = form.cut(relation.wordings(asking.template_set)[position]).split("{}")
    lines, shown = asking.lines(relation, fact, position)
    placed = form.place(before + fact.subject + after, lines)
    template = f"{asking.template_set}.{position}"
    start = placed.start + len(before)
    whole = placed.end < 0
    return Prompt(
        id=f"{fact.id}/{relation.language}/{template}{form.suffix(asking.seed)}",
        text=placed.text,
        answers=fact.objects,
        subject=fact.subject,
        relation=relation.name,
        language=relation.language,
        template=template,
        fact=fact.id,
        field=relation.field,
        role=role,
        subject_span=None if whole else (start, start + len(fact.subject)),
        form=form.name,
        asked_span=None if whole else (placed.start, placed.end),
        shown=tuple(shown),
        objects=relation.objects,
    )
