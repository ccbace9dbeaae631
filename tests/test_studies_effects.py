"""Studies of what switching sets off does, on the planted model: they report what was planted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from broca.errors import RecipeError
from broca.interventions import Deactivate, intervene
from broca.neurons import Neuron, NeuronIndex, uniform_random
from broca.scores import NeuronScores
from broca.studies.relations import RelationsConfig
from broca.studies.relations.ablation import SiteAblation, join_scores, site_groups
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
from broca.studies.relations.interference import Interference
from broca.studies.relations.versatility import Versatility, mantel_test
from broca.studies.study import Condition
from planted_words import HURT, HURTING, SHARED
from relation_bench import K, done, planted_sets, prepared
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


def test_versatility_names_the_pair_that_shares():
    found = done(Versatility(), sets=planted_sets()).found
    pairs = {(p["a"], p["b"]): p for p in found.tables["pairs"]}
    shared = pairs[SHARED]
    world = prepared().world
    assert shared["count"] == len(world.shared)
    assert shared["of_smaller"] == shared["count"] / K
    assert shared["shared_subjects_of_smaller"] == 1
    assert shared["p_holm"] < 0.05
    assert found.figures["versatility.pairs_above_chance"] == 1
    assert max(p["count"] for pair, p in pairs.items() if pair != SHARED) == 0
    assert shared["log_p_drop"] == max(p["log_p_drop"] for p in pairs.values())
    assert sum(r["neurons"] * r["sets"] for r in found.tables["membership"]) == K * 8


def test_mantel_test_equals_a_plain_one():
    rng = np.random.default_rng(0)
    a = rng.random((6, 6))
    a = a + a.T
    rho, p = mantel_test(a, 2 * a, n_permutations=300)
    assert rho == pytest.approx(1)
    assert p < 0.02
    other = rng.random((6, 6))
    rho, p = mantel_test(a, other + other.T, n_permutations=300)
    assert abs(rho) < 0.9
    assert p > 0.02
    assert np.isnan(mantel_test(a, np.zeros((6, 6)))[0])


def test_interference_names_the_planted_pair():
    found = done(Interference(), sets=planted_sets()).found
    raised = [(p["asked"], p["off"]) for p in found.tables["pairs"] if p["raised"]]
    assert raised == [(HURT, HURTING)]
    right = {(r["asked"], r["off"]) for r in found.tables["became_right"]}
    assert right == {(HURT, HURTING)}
    hurt = {f"{HURT}/{fact.subject}" for fact in prepared().world.hurt}
    assert {r["prompt"].partition("/en")[0] for r in found.tables["became_right"]} <= hurt
    assert found.figures["interference.pairs"] == 56


def test_site_groups_leave_out_what_a_model_lacks():
    assert site_groups(("gate", "up", "attention", "all"), ("up", "hidden", "down", "q")) == {
        "up": ("up",),
        "attention": ("q",),
        "all": ("up", "down", "q"),
    }


def test_joined_scores_rank_like_one_list():
    identity = tiny_model().identity
    rng = np.random.default_rng(0)
    parts = [
        NeuronScores(index, rng.random(len(index)), "expertise")
        for index in (NeuronIndex(identity, ("gate", "down")), NeuronIndex(identity, ("up",)))
    ]
    joined = join_scores(parts, ("up", "down", "gate"))
    plain = {
        neuron: score
        for part in parts
        for neuron, score in zip(
            part.index.select(np.arange(len(part))), part.values.tolist(), strict=True
        )
    }
    assert len(joined) == len(plain)
    best = sorted(plain, key=lambda neuron: -plain[neuron])[:20]
    assert list(joined.top(20)) == best


def test_ablation_finds_the_sites_that_gate():
    found = done(SiteAblation(), ablated_sites=("gate", "up", "hidden")).found
    sites = {record["sites"]: record for record in found.tables["sites"]}
    assert sites["hidden"]["own_drop"] == 1
    # act(gate) · up: zero at gate is zero at hidden, but there seven to ten neurons have the same
    # score for six places
    assert sites["gate"]["own_drop"] > 0.8
    assert sites["up"]["own_drop"] < 0.2  # up is the same for all prompts there: it tells nothing
    assert all(record["k"] == K for record in sites.values())
