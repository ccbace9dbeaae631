"""Parity with a published run: clusters counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from broca.scores import QueryScoreConfig, QuerySummary, Ranking
from broca.studies.queries import published
from broca.studies.queries.parity import PublishedClusters, cluster_figures
from broca.studies.study import Results
from planted import planted_world

CLUSTERS = {"a": (1, 2, 3, 9), "b": (1, 2, 4, 9), "c": (1, 5, 9), "d": (1, 6, 7)}


def part() -> Any:
    """Queries with these clusters, whose neurons are common from three of four queries on."""
    attributed = {}
    for query, neurons in CLUSTERS.items():
        ranked = Ranking(np.array(neurons, np.int64), np.ones(len(neurons)))
        attributed[query] = SimpleNamespace(summary=QuerySummary(ranked, ranked, None))
    sets = SimpleNamespace(
        identity=planted_world().language_model().identity,
        site="hidden",
        config=QueryScoreConfig(u=0.7),
        common=(1, 9),
    )
    questions = {query: SimpleNamespace(field="f") for query in CLUSTERS}
    return SimpleNamespace(attributed=attributed, sets=sets, questions=questions)


def test_clusters_are_counted() -> None:
    found = cluster_figures(part())
    assert found["sizes"] == [4, 4, 3, 3]
    assert found["distinct"] == len(set().union(*CLUSTERS.values()))
    assert found["in_all"] == 1  # neuron 1
    assert found["common"] == 2  # 1 and 9
    left = [len(set(neurons) - {1, 9}) for neurons in CLUSTERS.values()]
    assert found["left_per_query"] == np.mean(left)


def test_another_model_is_not_compared() -> None:
    results = Results({}, {}, {"part": part(), "like_llama": False})
    material: Any = None
    found = PublishedClusters().summarise(material, results)
    assert found.figures["parity.comparable"] == 0
    assert "parity.sizes_equal" not in found.figures
    assert "nothing is compared" in found.words[0]
    assert [c["published"] for c in found.tables["clusters"]] == list(published.CLUSTER_SIZES[:4])
