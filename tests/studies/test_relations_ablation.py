"""Sites apart: joined rankings, and the sites that gate."""

from __future__ import annotations

import numpy as np

from broca.neurons import NeuronIndex
from broca.scores import NeuronScores
from broca.studies.relations.ablation import SiteAblation, join_scores, site_groups
from relation_bench import K, done
from tiny import tiny_model


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
