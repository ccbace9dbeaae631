"""Halves of the facts find the same neurons."""

from __future__ import annotations

from broca.studies.relations.stability import Stability
from relation_bench import done


def test_halves_of_the_facts_find_the_same_neurons():
    found = done(Stability()).found
    assert found.figures["stability.shared"] > 0.9
    assert found.figures["stability.shared_other"] < 0.1
    assert found.figures["stability.drop_half"] > 0.9
    assert len(found.tables["relations"]) == 8
