"""Relations by locators: planted neurons cost their own answers; answers against a plain loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from broca.effects.aims import make_aims
from broca.errors import RecipeError, StudyError
from broca.facts import load_relations
from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.prompts import Prompt, render_fact_prompts
from broca.studies.locators import FAMILY, LocatorsConfig, Material
from broca.studies.locators.answering import measure_answers
from broca.studies.locators.relations import known_prompts
from broca.studies.study import Results
from planted import planted_world
from planted_files import write_planted_facts
from tiny import TEXTS, tiny_model

NAMES = ("father", "ceo", "river")
CONFIG = LocatorsConfig(
    n_group=6,
    n_others=8,
    n_judged=5,
    relation_locators=("expertise", "mean-difference", "slimming", "random"),
    relation_sizes=(2, 6, 20),
    mask_steps=20,
    n_resamples=100,
)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    facts = write_planted_facts(tmp_path_factory.mktemp("facts"), NAMES)
    relations = load_relations(str(facts))
    prompts = render_fact_prompts(relations)
    asked = {name: [p for p in prompts if p.relation == name] for name in NAMES}
    return Material(CONFIG, [], {}, {}, 0, asked)


def keeping(model: LanguageModel) -> Any:
    """A bench that computes at once."""

    def keep(kind: str, judge: Any, items: Any, quick: bool = False) -> list[dict[str, Any]]:
        return [judge(model, given) for _, given in items]

    return SimpleNamespace(model=model, keep=keep)


def test_planted_neurons_cost_their_own_answers(material: Material) -> None:
    model = planted_world().language_model()
    bench = keeping(model)
    study = FAMILY.studies["locators.relations"]
    found = study.summarise(material, Results({}, {}, study.plan(material, bench).extra))
    at_six = {r["locator"]: r for r in found.tables["locators"] if r["k"] == 6}
    assert at_six["expertise"]["own"] > 0.5
    assert at_six["expertise"]["other"] < 0.2
    assert at_six["random"]["own"] < 0.2
    assert at_six["expertise"]["apart_gap"] == 0.0  # against itself
    halves = {half["locator"]: half for half in found.tables["halves"]}
    assert (halves["expertise"]["reached"], halves["expertise"]["n"]) == (3, 3)
    assert halves["expertise"]["median"] <= 6
    assert (halves["random"]["reached"], halves["random"]["median"]) == (0, None)
    assert len(found.tables["relations"]) == 3 * 4 * 3
    assert found.words


def test_sets_are_judged_on_facts_that_no_locator_saw(material: Material) -> None:
    known = known_prompts(keeping(planted_world().language_model()), material)
    for name, prompts in known.items():
        assert len({prompt.fact for prompt in prompts}) == len(prompts) == 11
        assert {prompt.relation for prompt in prompts} == {name}


def test_a_model_that_knows_nothing_is_told_so(material: Material) -> None:
    with pytest.raises(StudyError, match="knows 11 facts of 0 relations"):
        known_prompts(keeping(tiny_model()), material)
    with pytest.raises(RecipeError, match="expertise"):
        LocatorsConfig(relation_locators=("random",))


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_answers_against_a_plain_loop(family: str) -> None:
    """Prompts and answers of all lengths, with neurons off at every position."""
    model = tiny_model(family)
    answers = (" dog", "zebra", " a", " city")
    prompts = [Prompt(str(n), TEXTS[n], (answer,)) for n, answer in enumerate(answers)]
    aims = make_aims(model, prompts, "answer")
    assert len({len(listed) for listed in aims}) > 1
    index = NeuronIndex(model.identity, ("hidden",))
    neurons = index.select(np.random.default_rng(0).permutation(len(index))[:40])
    with intervene(model, Deactivate(neurons)):
        found = measure_answers(model, aims)
        for number, listed in enumerate(aims):
            p, right = 1.0, True
            for aim in listed:
                with torch.no_grad():
                    logits = model.module(torch.tensor([list(aim.tokens)])).logits[0, -1].double()
                p *= float(logits.softmax(-1)[aim.target])
                right &= int(logits.argmax()) == aim.target
            assert found.p[number] == pytest.approx(p, rel=1e-4)
            assert found.right[number] == right
