"""Versatility names the planted pair that shares; the Mantel test against a plain one."""

from __future__ import annotations

import numpy as np
import pytest

from broca.studies.relations.versatility import Versatility, mantel_test
from planted_words import SHARED
from relation_bench import K, done, planted_sets, prepared


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
