"""Parts of query studies as the studies of fields read them, made up."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from broca.questions import Question
from broca.scores import Ranking
from broca.studies.queries.localisation import Grid

WIDTH, LAYERS = 40, 4
GRID = Grid(LAYERS, WIDTH, 10)


def part_of(
    scores: Mapping[str, Mapping[int, float]],
    fields: Mapping[str, str],
    languages: Mapping[str, str] | None = None,
) -> Any:
    """What the studies read of a part, from query -> neuron -> score and query -> field."""
    questions = {
        query: Question(query, "?", ("a", "b"), 0, field, (languages or {}).get(query, "en"))
        for query, field in fields.items()
    }
    rankings = {
        query: Ranking(np.array(list(own), np.int64), np.array(list(own.values()), float))
        for query, own in scores.items()
    }
    return SimpleNamespace(
        questions=questions,
        fields=tuple(dict.fromkeys(fields.values())),
        found=tuple(query for query in scores if len(scores[query])),
        sets=SimpleNamespace(rankings={"na-ica": rankings}),
    )


def random_part(seed: int, n_fields: int = 3, per_field: int = 5) -> Any:
    """Queries whose neurons have nothing to do with their fields."""
    rng = np.random.default_rng(seed)
    scores, fields = {}, {}
    for number in range(n_fields * per_field):
        drawn = rng.choice(LAYERS * WIDTH, rng.integers(3, 8), replace=False)
        scores[f"q{number}"] = {int(n): float(rng.random()) + 0.01 for n in drawn}
        fields[f"q{number}"] = f"f{number % n_fields}"
    return part_of(scores, fields)


def plain(part: Any) -> dict[str, dict[int, float]]:
    """Query -> neuron -> score, of queries that have some."""
    rankings = part.sets.rankings["na-ica"]
    return {
        query: dict(zip(rankings[query].neurons.tolist(), rankings[query].scores, strict=True))
        for query in part.found
    }
