"""Cumulativity: ladders, plain loops over sets, and what was planted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from broca.errors import RecipeError
from broca.interventions import Deactivate, intervene
from broca.neurons import Neuron, NeuronIndex, uniform_random
from broca.studies.relations import RelationsConfig
from broca.studies.relations.cumulativity import (
    PAPER_LADDER,
    Cumulativity,
    _size,
    between,
    cumulativity,
    ladder_of,
    selectivity,
    set_difference,
)
from broca.studies.study import Condition
from relation_bench import done, prepared
from tiny import tiny_model

LADDER = (1, 2, 4, 6)


def test_ladders():
    assert ladder_of(RelationsConfig(), 835_584) == PAPER_LADDER
    geometric = ladder_of(RelationsConfig(ladder_rungs=5), 1024)
    assert geometric == (4, 11, 32, 91, 256)
    assert ladder_of(RelationsConfig(ladder=(100, 0.01, 3)), 1000) == (3, 10, 100)
    with pytest.raises(RecipeError, match="do not exist"):
        ladder_of(RelationsConfig(ladder=(10, 2000)), 1000)


def test_set_logic_equals_plain_sets_of_neurons():
    model = tiny_model()
    ranked = uniform_random(NeuronIndex(model.identity, ("gate", "up")), 40, 0, name="r")
    listed = list(ranked)
    for low, high in pairwise((0, 3, 10, 40)):
        assert list(between(ranked, low, high)) == listed[low:high]
        assert set(between(ranked, low, high)) == set(listed[:high]) - set(listed[:low])


def test_set_difference_equals_a_plain_loop_on_a_tiny_model():
    """Answers before and after, one prompt and one set at a time, with greedy tokens as answers."""
    model = tiny_model()
    ranked = uniform_random(NeuronIndex(model.identity, ("hidden",)), 60, 1, name="r")
    texts = ["the quick", "a cat", "one two three", "the capital of", "lazy dog", "is the city"] * 2

    def greedy(neurons) -> list[int]:
        said = []
        for text in texts:
            with intervene(model, Deactivate(neurons)):
                said.append(int(model.logits(model.pad(model.encode([text])))[0, -1].argmax()))
        return said

    untouched = greedy(ranked.take(slice(0)))
    low, high = 5, 60
    right = {
        name: np.array(greedy(neurons)) == untouched
        for name, neurons in {
            "low": ranked.top(low),
            "high": ranked,
            "between": between(ranked, low, high),
        }.items()
    }
    total, affected = set_difference(right["low"], right["high"], right["between"])
    lost = [i for i in range(len(texts)) if right["low"][i] and not right["high"][i]]
    wrong = [i for i in lost if not right["between"][i]]
    assert np.flatnonzero(total).tolist() == lost
    assert np.flatnonzero(affected).tolist() == wrong
    assert lost  # the tiny model does change its mind
    assert cumulativity(len(lost), len(wrong)) == 1 - len(wrong) / len(lost)


def test_cumulativity_is_found_where_it_was_planted():
    """A fact of tolerance t survives t planted neurons off: a step alone is not enough."""
    _, results, found = done(Cumulativity(), ladder=LADDER)
    own = [point["own"] for point in found.tables["curve"]]
    assert own == sorted(own, reverse=True)
    assert own[-1] == 0
    assert found.figures["cumulativity.micro"] > 0.95
    assert found.figures["cumulativity.lost"] > 50
    assert found.figures["cumulativity.k_half"] == 4
    assert found.figures["cumulativity.uniform_drop_at_half"] < 0.1
    material = prepared().material
    for record in found.tables["steps"]:
        assert record["total"] >= record["affected"] >= 0
    rung = results.extra["rungs"]["ceo", 4]
    assert len(results[rung["own"]]) == len(material.evaluation["ceo"])
    assert len(rung["others"]) == len(material.names) - 1


def test_random_orders_hold_the_same_neurons_and_stand_beside_the_own_order():
    plan, results, found = done(Cumulativity(), ladder=LADDER)
    material = prepared().material
    (order,) = results.extra["orders"]

    def off(condition: Condition) -> set[Neuron]:
        return set(plan.sets[condition.set])

    for name in material.names:
        ranked = set(material.scores[name].top(LADDER[-1]))
        sets = [off(order.tops[name, k]) for k in LADDER]
        assert [len(one) for one in sets] == list(LADDER)
        assert sets[-1] == ranked
        assert all(a < b for a, b in pairwise(sets))
        for (low, small), (high, large) in pairwise(zip(LADDER, sets, strict=True)):
            assert off(order.steps[name, low, high]) == large - small
    figures = found.figures
    plain = []
    for name in material.names:
        here = [s for s in found.tables["steps"] if s["relation"] == name]
        there = [s for s in found.tables["random_steps"] if s["relation"] == name]
        own, random = (
            cumulativity(sum(s["total"] for s in o), sum(s["affected"] for s in o))
            for o in (here, there)
        )
        plain.append(own - random)
    assert figures["cumulativity.beyond_random"] == pytest.approx(np.nanmean(plain))


@pytest.mark.parametrize(
    ("own", "other", "expected"), [(0.6, 0.2, 0.5), (0.5, -0.1, 1.0), (0.0, 0.3, -1.0)]
)
def test_selectivity_is_the_gap_over_the_sum(own: float, other: float, expected: float) -> None:
    assert selectivity(own, other) == pytest.approx(expected)
    assert np.isnan(selectivity(-0.1, 0.0))


def test_half_of_the_loss_of_the_largest_set():
    records = [
        {"relation": "r", "k": k, "share": k / 100, "own_drop": own, "other_drop": 0.1}
        | {"selectivity": selectivity(own, 0.1)}
        for k, own in ((1, 0.1), (5, 0.35), (20, 0.6))
    ]
    assert _size(records, "r")["k"] == 5
    assert _size([{**r, "own_drop": 0.0} for r in records], "r")["k"] is None
