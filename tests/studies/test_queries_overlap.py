"""What fields share: letter neurons alone where only these were planted."""

from __future__ import annotations

import numpy as np

from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries.shuffled import FieldScores, against_shuffled
from planted import planted_world
from planted_run import tables
from planted_words import FIELDS
from query_parts import random_part


def test_planted_fields_share_letter_neurons_alone(
    planted_regions: RunFolder,
) -> None:
    world, figures = planted_world(), planted_regions.summary
    sets = QuerySets.load(planted_regions.path / "sets" / "queries.parquet")
    points = tables(planted_regions, "queries.embedding")["points"]
    pooled = {
        field: {n for p in points if p["field"] == field for n in sets.neurons(p["query"])}
        for field in FIELDS
    }
    letters = {neuron for neurons in world.letters.values() for neuron in neurons}
    for pair in tables(planted_regions, "queries.overlap")["pairs"]:
        shared = pooled[pair["a"]] & pooled[pair["b"]]
        assert shared <= letters
        assert pair["shared"] == len(shared)
    assert figures["queries.overlap.mean"] < figures["queries.overlap.mean.shuffled.low"]
    assert figures["queries.overlap.mean.p"] < 0.01


def test_a_value_is_compared_by_its_alternative() -> None:
    scores = FieldScores.of(random_part(6), "field")

    def first(codes: np.ndarray) -> np.ndarray:
        return -np.ones((len(codes), 1))

    (equal,) = against_shuffled(scores, first, n=20, seed=0, size=1)
    assert (equal.value, equal.low, equal.p) == (-1.0, -1.0, 1.0)
