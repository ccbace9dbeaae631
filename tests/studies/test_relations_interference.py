"""Interference names the planted pair, and no other."""

from __future__ import annotations

from broca.studies.relations.interference import Interference
from planted_words import HURT, HURTING
from relation_bench import done, planted_sets, prepared


def test_interference_names_the_planted_pair():
    found = done(Interference(), sets=planted_sets()).found
    raised = [(p["asked"], p["off"]) for p in found.tables["pairs"] if p["raised"]]
    assert raised == [(HURT, HURTING)]
    right = {(r["asked"], r["off"]) for r in found.tables["became_right"]}
    assert right == {(HURT, HURTING)}
    hurt = {f"{HURT}/{fact.subject}" for fact in prepared().world.hurt}
    assert {r["prompt"].partition("/en")[0] for r in found.tables["became_right"]} <= hurt
    assert found.figures["interference.pairs"] == 56
