"""Judging replaced facts: what each figure counts, on the planted model."""

from __future__ import annotations

import math

import pytest
import torch

from broca.edits import FactEditConfig
from broca.errors import StudyError
from broca.studies.editing import (
    OWN,
    RANDOM,
    EditCase,
    EditOutcome,
    JudgeConfig,
    World,
    draw_cases,
    judge_edits,
    perplexity,
    summarise_edits,
)
from planted import Planted, planted_world
from tiny import TEXTS, tiny_model

CONFIG = FactEditConfig(n_neurons=8, max_change=2.0, max_total=1.5, n_others=4)


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted_world()


def test_cases_are_known_facts_spread_over_relations(world):
    model, relations = world.language_model(), world.relations(names=("maker", "river", "office"))
    cases = draw_cases(model, relations, 6, seed=1)
    assert sorted(case.fact.relation for case in cases) == sorted(["maker", "river", "office"] * 2)
    assert all(case.new_object not in case.fact.objects for case in cases)
    assert draw_cases(model, relations, 4, seed=1, skip=2) == cases[2:]
    with pytest.raises(StudyError, match="the model knows"):
        draw_cases(model, relations, 10_000)


def test_own_neurons_take_the_fact_and_random_ones_less(world):
    model = world.language_model()
    relations = world.relations(names=("maker", "river"))
    german = world.relations(names=("maker", "river"), language="de")
    cases = draw_cases(model, relations, 1)
    judge = JudgeConfig(n_others=6)
    before = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    judged = World(relations, {"de": german}, TEXTS_OF_FACTS)
    outcomes = list(judge_edits(model, cases, judged, CONFIG, judge))
    assert all(torch.equal(w, before[n]) for n, w in model.module.state_dict().items())
    assert [o.neurons for o in outcomes] == [OWN, RANDOM]
    for outcome in outcomes:
        assert outcome.figures["changed"] <= CONFIG.max_total * (1 + 1e-4)
        shares = [v for k, v in outcome.figures.items() if "." in k or k == "success"]
        assert all(0 <= share <= 1 for share in shares)
        assert outcome.figures["fluency"] > 0
    found = summarise_edits(outcomes)
    assert found[OWN]["success"].value > 0.8
    assert found[OWN]["generalisation.languages"].value > 0.5
    assert found["difference"]["log_p"].value > 0
    assert found[OWN]["locality.others"].n == 1


TEXTS_OF_FACTS = ("the maker of the river is", "the office ? Answer: A B")


def test_differences_are_paired_over_cases(world):
    facts = world.relations(names=("maker",))["maker"].facts
    case, other = EditCase(facts[0], facts[1]), EditCase(facts[2], facts[1])
    outcomes = [
        EditOutcome(case, OWN, {"success": 1.0, "fluency": 1.1}),
        EditOutcome(case, RANDOM, {"success": 0.25}),
        EditOutcome(other, OWN, {"success": 0.5}),
    ]
    found = summarise_edits(outcomes)
    assert found[OWN]["success"].value == 0.75
    assert found["difference"]["success"].value == 0.75
    assert found["difference"]["success"].n == 1
    assert "fluency" not in found["difference"]


def test_perplexity_equals_transformers_loss():
    model = tiny_model()
    total, count = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor(model.encode([text]))
        with torch.no_grad():
            loss = model.module(ids, labels=ids).loss
        total += float(loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert perplexity(model, TEXTS) == pytest.approx(math.exp(total / count), rel=1e-5)
