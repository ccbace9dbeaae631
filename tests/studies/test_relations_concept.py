"""Concepts are not relations."""

from __future__ import annotations

from broca.studies.relations.concept import Concept
from relation_bench import done


def test_concepts_are_not_relations():
    found = done(Concept()).found
    assert len(found.tables["pairs"]) == 8 * 4
    assert found.figures["concept.shared_own"] < 0.2
    assert found.figures["concept.drop_own_concept"] < 0.1
    assert found.figures["concept.drop_without_concept"] > 0.9
