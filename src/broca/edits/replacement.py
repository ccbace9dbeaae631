"""Replace a fact: change the value vectors of its neurons until the model says another object.

1. The fact's neurons are those of highest attribution (log P of the answer, all of its tokens),
   summed over the fact's own paraphrases.
2. Only their value vectors may change, each by at most a share of its own length, all together by
   at most a share of theirs.
3. A few steps down the gradient, all of one length, raise log P of the whole new object on the
   paraphrases. A second term keeps what the model says after a few other prompts
   (Kullback-Leibler divergence from before). Adam, which moves every coordinate alike, needed
   half as much change again for the same effect.
4. The steps end when every paraphrase gives the new object the probability asked for; the
   iterate of lowest loss is kept.

Neurons of a fact and their value vectors: Dai et al. 2022 (Knowledge Neurons); the bound on the
change and the terms of the loss follow constrained fine-tuning (Zhu et al. 2020) and ROME (Meng
et al. 2022). Choosing the neurons by attribution over the whole answer is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from broca.answers import measure_border
from broca.attributions import attribute_answer_tokens
from broca.edits.config import FactEditConfig
from broca.edits.descent import Problem, descend
from broca.edits.weights import ValueVectors, check_editable
from broca.errors import EditError, FactsError, PromptError
from broca.facts import Fact, Relation, Relations
from broca.facts.seeding import stable_random
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet
from broca.prompts import Prompt, render_fact_prompts


@dataclass(frozen=True, eq=False)
class FactReplacement:
    """A change of value vectors that replaces a fact, and what it does on its own paraphrases.

    Attributes:
        fact: The fact as it was.
        new_object: What the model shall say instead.
        vectors: The change; an edit like any other.
        prompts: The fact's own paraphrases, with the new object as the answer.
        log_p_before: Log P of the whole new object, [prompt].
        log_p_after: The same with the change.
        n_steps: Steps made.
        largest_change: Largest length of a change / length of its value vector.
        total_change: Length of all changes together / length of these value vectors together.
        border: ``" "`` or ``""``, what stands between a prompt and the new object.
    """

    fact: Fact
    new_object: str
    vectors: ValueVectors
    prompts: tuple[Prompt, ...]
    log_p_before: np.ndarray
    log_p_after: np.ndarray
    n_steps: int
    largest_change: float
    total_change: float
    border: str

    @property
    def neurons(self) -> NeuronSet:
        """The neurons whose value vectors change."""
        return self.vectors.neurons


def parse_fact(text: str) -> tuple[str, str, str]:
    """Read ``"subject | relation | new object"``.

    Raises:
        EditError: If the text has another form.
    """
    parts = [part.strip() for part in text.split("|")]
    if len(parts) != 3 or not all(parts):
        raise EditError(
            f"{text!r} is no new fact", mend='Write it as "subject | relation | new object".'
        )
    return parts[0], parts[1], parts[2]


def pick_fact(relations: Relations, subject: str, relation: str) -> Fact:
    """The known fact about a subject.

    Raises:
        FactsError: If the relation is unknown, or nothing is known of the subject in it.
    """
    for fact in relations[relation].facts:
        if fact.subject == subject:
            return fact
    near = [f.subject for f in relations[relation].facts if subject.lower() in f.subject.lower()]
    some = near or [fact.subject for fact in relations[relation].facts]
    raise FactsError(
        f"there is no fact about {subject!r} in {relation}",
        mend=f"Subjects there: {', '.join(some[:5])}{', …' if len(some) > 5 else ''}",
    )


def paraphrases(
    relation: Relation, fact: Fact, template_set: str = "finding", **asking: Any
) -> list[Prompt]:
    """The fact asked in every wording of a template set, with and without the ending.

    Args:
        relation: The fact's relation.
        fact: The fact.
        template_set: Which wordings.
        **asking: `form` in place of the two, and what it needs; see `render_fact_prompts`.
    """
    alone = replace(relation, facts=(fact,))
    form = asking.pop("form", None)
    return [
        prompt
        for name in ((form,) if form else ("question", "cloze"))
        for prompt in render_fact_prompts(
            alone,
            template_set=template_set,
            form=name,
            every_wording=True,
            **asking,
        )
    ]


def select_fact_neurons(
    model: LanguageModel, prompts: Sequence[Prompt], n_neurons: int, n_nodes: int = 6
) -> NeuronSet:
    """Hidden neurons of highest attribution to the whole answer, summed over prompts.

    Raises:
        EditError: If the model has fewer neurons.
    """
    index = NeuronIndex(model.identity, ("hidden",))
    if n_neurons > len(index):
        raise EditError(f"Cannot choose {n_neurons} of {len(index)} neurons")
    found = attribute_answer_tokens(model, prompts, method="gauss-legendre", n_steps=n_nodes)
    total = sum(np.asarray(each.values, dtype=np.float64) for each in found)
    # Ordered like the index: layer, then neuron.
    scores = np.asarray(total).reshape(-1)[model.identity.positions("hidden")]
    best = np.argsort(-scores, kind="stable")[:n_neurons]
    name = prompts[0].fact if prompts else ""
    return index.select(
        best, scores[best], name=name, method="attribution", settings={"n_nodes": n_nodes}
    )


def replace_fact(
    model: LanguageModel,
    relations: Relations,
    fact: Fact,
    new_object: str,
    config: FactEditConfig | None = None,
    *,
    neurons: NeuronSet | None = None,
) -> FactReplacement:
    """Find a change of value vectors that makes the model say another object.

    The model's weights stay as they are: make the change with :func:`broca.edits.edited` or write
    it with :func:`broca.edits.save_edited`.

    Args:
        model: The model under study.
        relations: Where the fact's wordings and the other prompts come from.
        fact: The fact to replace.
        new_object: What the model shall say instead.
        config: See :class:`FactEditConfig`.
        neurons: Hidden neurons to change instead of those chosen by attribution.

    Raises:
        EditError: If the new object is one of the old ones, or the weights cannot be edited.
        FactsError: If the relation has no such wordings.
        PromptError: If a prompt with its answer does not fit the model.
    """
    config = config or FactEditConfig()
    check_editable(model)
    if new_object.strip().casefold() in {known.casefold() for known in fact.objects}:
        raise EditError(
            f"{new_object!r} is already right for {fact.subject}", fact.relation, "Name another."
        )
    relation = relations[fact.relation]
    asking = {
        "form": config.form,
        "shots": config.shots,
        "demonstrations": _without(relations, fact.subject),  # it would be shown as it was
        "chat": model.chat,
        "seed": config.seed,
    }
    own = paraphrases(relation, fact, config.template_set, **asking)
    others = _other_prompts(relations, fact, config, asking)
    border = measure_border(model, [*own, *others])
    if neurons is None:
        ended = own if config.form else own[: len(own) // 2]
        neurons = select_fact_neurons(model, ended, config.n_neurons, config.n_nodes)
    neurons = replace(neurons, name=f"{fact.id} -> {new_object}")
    asked = [replace(prompt, answers=(new_object,)) for prompt in own]
    problem = Problem(model, neurons, asked, others, border)
    change, after, n_steps = descend(problem, config)
    about = f"{fact.subject} | {fact.relation} | {fact.objects[0]} → {new_object}"
    return FactReplacement(
        fact=fact,
        new_object=new_object,
        vectors=ValueVectors(neurons, change, about),
        prompts=tuple(asked),
        log_p_before=problem.log_p_before.numpy(),
        log_p_after=after.numpy(),
        n_steps=n_steps,
        largest_change=float((change.norm(dim=1) / problem.lengths).max()),
        total_change=float(change.norm() / problem.lengths.norm()),
        border=border,
    )


def _without(relations: Relations, subject: str) -> Relations:
    return Relations(
        replace(relation, facts=tuple(f for f in relation.facts if f.subject != subject))
        for relation in relations.values()
    )


def _other_prompts(
    relations: Relations, fact: Fact, config: FactEditConfig, asking: Mapping[str, Any]
) -> list[Prompt]:
    """Prompts about other subjects, drawn by the fact's id: half of the same relation."""
    if not config.locality or not config.n_others:
        return []
    rng = stable_random(config.seed, "locality", fact.id)
    same, rest = [], []
    for name, relation in relations.items():
        there = [f for f in relation.facts if f.subject != fact.subject]
        drawn = rng.sample(there, min(len(there), config.n_others))
        if not drawn:
            continue
        try:
            prompts = render_fact_prompts(
                replace(relation, facts=tuple(drawn)),
                template_set=config.template_set,
                **{**asking, "form": config.form or "question"},
            )
        except PromptError:  # too few facts to be shown others: this relation has no say
            continue
        (same if name == fact.relation else rest).extend(prompts)
    rng.shuffle(rest)
    half = config.n_others // 2
    return [*same[: config.n_others - half], *rest[:half]]
