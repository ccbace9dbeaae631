"""A tiny Llama whose knowledge sits in neurons we put there: the ground truth of the tests.

The weights are written by hand on top of small random noise; every bias is non-zero and every
norm weight is away from 1. What an answer is made of, from the first block to the last:

0. Attention copies to every later token which **relation word** (``rel``), which **subject**
   (its class and strength, ``class``) and which option **letter** stood before it.
1. and 2. The **planted neurons** of relation r see ``rel`` and each add one unit of ``evidence``
   for r. Father and mother share half of theirs (``shared``). Two neurons of ceo also fire, less,
   on country and take evidence away there (``harmful``): a quarter of its facts is wrong.
3. A **reader** per object multiplies evidence by the subject's class and speaks the object.
   Subjects differ in strength: *tolerance* t means that a fact survives t planted neurons off
   (country: the harmful ones have used up two of them) and is lost with t + 1.
   Attention then looks for the option that fits relation and class, and takes its letter.
   The **field neurons**, one contiguous region per field, and the first common neurons raise
   ``confidence`` when the prompt has options.
4. **Letter neurons** speak the chosen letter, the louder the more confidence there is; the last
   **common neurons** promote all letters and demote all objects.

With the evidence gone the model says "the".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from broca.neurons import Neuron
from planted_weights import (
    D_FF,
    FIELD_LAYER,
    FIELD_SIZE,
    FIELD_STARTS,
    N_LAYERS,
    Builder,
    write_attention,
    write_letters,
    write_relations,
    write_words,
)
from planted_words import (
    FRAMES,
    HURT,
    NAMES,
    RELATIONS,
    PlantedFact,
    PlantedQuestion,
    make_facts,
    make_questions,
    make_templates,
    make_tokenizer,
)

if TYPE_CHECKING:
    from broca.facts import Relations
    from broca.model import LanguageModel
    from broca.questions import Question


@dataclass(frozen=True)
class Planted:
    """The model and everything that is known about it. Neurons are of site ``hidden``.

    Attributes:
        templates: Relation -> {"finding": wordings, "robustness": wordings}, one ``{}`` each.
        german: The same in other words: relation -> {"finding": wordings}.
        planted: Relation -> its neurons, shared and harmful ones included.
        shared: Neurons of both father and mother.
        harmful: (hurting relation, hurt relation, neurons); the neurons are the former's.
        hurt: Facts answered wrongly because of the harmful neurons.
        readers: (relation, object) -> the one neuron that speaks the object.
        fields: Field -> its region, in index order.
        common: Neurons that fire on every question and promote letters.
        letters: Letter -> neurons that speak it.
    """

    module: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    facts: tuple[PlantedFact, ...]
    templates: Mapping[str, Mapping[str, tuple[str, ...]]]
    german: Mapping[str, Mapping[str, tuple[str, ...]]]
    planted: Mapping[str, tuple[Neuron, ...]]
    shared: tuple[Neuron, ...]
    harmful: tuple[str, str, tuple[Neuron, ...]]
    hurt: tuple[PlantedFact, ...]
    readers: Mapping[tuple[str, str], Neuron]
    questions: tuple[PlantedQuestion, ...]
    fields: Mapping[str, tuple[Neuron, ...]]
    common: tuple[Neuron, ...]
    letters: Mapping[str, tuple[Neuron, ...]]

    def field_of(self, relation: str) -> str:
        """The field a relation belongs to."""
        return RELATIONS[relation][0]

    def facts_of(self, relation: str) -> list[PlantedFact]:
        """The facts of one relation."""
        return [fact for fact in self.facts if fact.relation == relation]

    def prompt(self, fact: PlantedFact, template_set: str = "finding", which: int = 0) -> str:
        """Render a fact with one wording of a template set."""
        wording = self.templates[fact.relation][template_set][which]
        return wording.format(fact.subject) + "? Answer:"

    def language_model(self) -> LanguageModel:
        """The model as broca loads it."""
        from broca.model import LanguageModel

        return LanguageModel(self.module, self.tokenizer, name="planted")

    def relations(self, *, language: str = "en", names: Iterable[str] = NAMES) -> Relations:
        """The facts as broca reads them; ``language="de"`` asks with the German words."""
        from broca.facts import Fact, Relation, Relations

        templates = self.templates if language == "en" else self.german
        return Relations(
            Relation(
                name=name,
                facts=tuple(
                    Fact(f.subject, name, f.objects, language, id=f"{name}/{f.subject}")
                    for f in self.facts_of(name)
                ),
                templates=templates[name],
                field=self.field_of(name),
                language=language,
            )
            for name in names
        )

    def asked_questions(self) -> list[Question]:
        """The questions as broca reads them, to be asked with broca's own wordings."""
        from broca.questions import Question

        return [
            Question(
                id=f"{q.relation}/{q.subject}",
                question=q.question,
                options=q.options,
                answer=q.answer,
                field=q.field,
                relation=q.relation,
            )
            for q in self.questions
        ]


@lru_cache(maxsize=1)
def planted_world() -> Planted:
    """Build the model; the same every time. Nobody may change what it returns."""
    facts = make_facts()
    templates = {s: make_templates(s, i) for i, s in enumerate(FRAMES, start=1)}
    questions = make_questions(facts)
    texts = [wording for chosen in templates.values() for w in chosen.values() for wording in w]
    texts += [text for question in questions for text, _ in question.prompts]
    texts += [f"{fact.subject} {fact.objects[0]}" for fact in facts] + ["the? Answer: A B C D."]
    tokenizer = make_tokenizer(texts)
    rng = np.random.default_rng(3)
    free = {layer: rng.permutation(D_FF).tolist() for layer in range(N_LAYERS)}
    regions = {start + i for start in FIELD_STARTS for i in range(FIELD_SIZE)}
    free[FIELD_LAYER] = [i for i in free[FIELD_LAYER] if i not in regions]
    with torch.no_grad():
        build = Builder(tokenizer)
        write_words(build)
        write_attention(build)
        neurons = write_relations(build, free) | write_letters(build, free)
    return Planted(
        module=build.module,
        tokenizer=tokenizer,
        facts=facts,
        templates={r: {s: templates[s][r] for s in ("finding", "robustness")} for r in NAMES},
        german={r: {"finding": templates["german"][r]} for r in NAMES},
        hurt=tuple(f for f in facts if f.relation == HURT and f.tolerance == 1),
        questions=questions,
        **neurons,
    )
