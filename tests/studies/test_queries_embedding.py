"""Queries on a plane: planted fields lie apart, pictures repeat."""

from __future__ import annotations

import numpy as np

from broca.store import RunFolder
from broca.studies.queries.embedding import place_on_plane
from planted_run import tables
from planted_words import FIELDS


def test_few_queries_stay_in_a_line_and_pictures_repeat() -> None:
    vectors = np.abs(np.random.default_rng(0).standard_normal((9, 12)))
    first = place_on_plane(vectors, 3)
    assert first.shape == (9, 2)
    np.testing.assert_array_equal(first, place_on_plane(vectors, 3))
    assert place_on_plane(vectors[:3], 0).tolist() == [[0, 0], [1, 0], [2, 0]]
    same = place_on_plane(np.repeat(vectors[:2], 4, axis=0), 0)
    assert np.isfinite(same).all()


def test_planted_fields_lie_apart(planted_regions: RunFolder) -> None:
    figures = planted_regions.summary
    points = tables(planted_regions, "queries.embedding")["points"]
    assert figures["queries.embedding.silhouette"] > 0.3
    assert figures["queries.embedding.silhouette.p"] < 0.01
    assert figures["queries.embedding.cosine_within"] > figures["queries.embedding.cosine_between"]
    centres = {
        field: np.mean([(p["x"], p["y"]) for p in points if p["field"] == field], axis=0)
        for field in FIELDS
    }
    nearest = [
        min(FIELDS, key=lambda field: float(np.linalg.norm(centres[field] - (p["x"], p["y"]))))
        for p in points
    ]
    own = [field == p["field"] for field, p in zip(nearest, points, strict=True)]
    assert np.mean(own) > 0.75, own
