"""Resilience: strong facts survive."""

from __future__ import annotations

import numpy as np

from broca.studies.relations.resilience import Resilience, relative_difference
from relation_bench import done, prepared


def test_resilience_finds_that_strong_facts_survive():
    """With two of six planted neurons off, facts of tolerance 1 are lost: those of exposure 1."""
    ready = prepared()
    half = {
        name: neurons.take(slice(2), name=f"{name}.two")
        for name, neurons in ready.material.sets.items()
    }
    found = done(Resilience(), sets=half).found
    assert found.figures["resilience.relations"] >= 6
    assert found.figures["resilience.relations_negative"] == found.figures["resilience.relations"]
    assert found.figures["resilience.p_relations"] < 0.05
    assert found.figures["resilience.p_facts"] < 0.001
    shares = [band["resilient"] for band in found.tables["bands"] if band["facts"]]
    assert shares[0] == min(shares) < 0.5
    assert shares[-1] == max(shares) == 1


def test_relative_difference_is_the_papers():
    assert relative_difference([1, 3], [4, 4]) == -0.5
    assert np.isnan(relative_difference([], [4]))
