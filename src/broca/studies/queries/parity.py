"""Parity with a published run of the released code: its clusters beside this run's.

Claim: with the released code's rule, variant and letters, on its 18 sample queries and its model,
broca finds the clusters that the authors' code finds. METHODS §3, published anchors.

1. Queries are attributed with the settings of the recipe (`riemann-linspace`, 16 nodes,
   `variant = "released-code"`, bare letters).
2. Sizes of the coarse clusters, distinct neurons over all, neurons in all clusters, common
   neurons, and neurons per query that a working filter of common neurons leaves.

Published figures belong to Llama-2-7b and the 18 sample queries: with another model or other
queries they stand there for scale only, and the page says so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from broca.scores import QueryScoreConfig, select_queries
from broca.studies.queries import published
from broca.studies.queries.material import Material, Part, QueryBench
from broca.studies.study import Findings, Plan, Results


class PublishedClusters:
    """Clusters of this run beside those of the published one."""

    name = "queries.parity"

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Nothing is asked: attributions are all there is to compare."""
        part = material.part("field", bench, "letters")
        shape = (bench.model.n_layers, bench.model.widths.get("hidden"))
        return Plan({}, extra={"part": part, "like_llama": shape == (32, 11008)})

    def summarise(self, material: Material, results: Results) -> Findings:
        """Sizes, distinct, shared and common neurons, beside the published ones."""
        part: Part = results.extra["part"]
        ours = cluster_figures(part)
        sizes: list[int] = ours.pop("sizes")
        comparable = results.extra["like_llama"] and len(sizes) == len(published.CLUSTER_SIZES)
        theirs = {
            "distinct": published.DISTINCT,
            "in_all": published.IN_ALL,
            "in_all_named": len(published.IN_ALL_NAMED),
            "common": published.COMMON,
            "left_per_query": published.LEFT_PER_QUERY,
        }
        clusters = [
            {
                "query": query,
                "field": part.questions[query].field,
                "ours": size,
                "published": published.CLUSTER_SIZES[i]
                if i < len(published.CLUSTER_SIZES)
                else None,
            }
            for i, (query, size) in enumerate(zip(part.questions, sizes, strict=True))
        ]
        figures: dict[str, Any] = {f"parity.{name}": value for name, value in ours.items()}
        figures["parity.comparable"] = int(comparable)
        words = [_words(comparable, part, ours)]
        if comparable:
            off = np.abs(np.array(sizes) - np.array(published.CLUSTER_SIZES))
            figures["parity.sizes_equal"] = int((off == 0).sum())
            figures["parity.size_error_mean"] = float(off.mean())
            words.append(
                f"{int((off == 0).sum())} of {len(sizes)} clusters have the published size; sizes "
                f"differ by {off.mean():.1f} neurons in the mean."
            )
        return Findings(
            figures,
            {
                "clusters": clusters,
                "parity": [
                    {"figure": name, "ours": ours[name], "published": theirs[name]}
                    for name in theirs
                ],
            },
            words,
        )


def cluster_figures(part: Part) -> dict[str, Any]:
    """Sizes of clusters and how their neurons are shared."""
    clusters = [one.summary.cluster.neurons for one in part.attributed.values()]
    counts = Counter(int(neuron) for cluster in clusters for neuron in cluster)
    width = part.sets.identity.width(part.sets.site)
    in_all = {neuron for neuron, n in counts.items() if n == len(clusters)}
    named = {layer * width + index for layer, index in published.IN_ALL_NAMED}
    config = part.sets.config
    filtered = select_queries(
        {query: one.summary for query, one in part.attributed.items()},
        part.sets.identity,
        site=part.sets.site,
        config=QueryScoreConfig(config.t, config.u, config.v, "paper"),
        methods=("na-ica",),
    )
    return {
        "sizes": [len(cluster) for cluster in clusters],
        "distinct": len(counts),
        "in_all": len(in_all),
        "in_all_named": len(in_all & named),
        "common": len(part.sets.common),
        "left_per_query": float(np.mean(list(filtered.counts().values()))),
    }


def _words(comparable: bool, part: Part, ours: dict[str, Any]) -> str:
    if not comparable:
        return (
            f"The published clusters are those of {published.RUN_18}; this run has "
            f"{len(part.questions)} queries on {part.sets.identity.id}, so they stand here for "
            "scale and nothing is compared."
        )
    return (
        f"Against {published.RUN_18}: {ours['distinct']} distinct neurons (published "
        f"{published.DISTINCT}), {ours['in_all']} in all clusters (published {published.IN_ALL}, "
        f"of the five named ones {ours['in_all_named']}), {ours['common']} common "
        f"(published {published.COMMON})."
    )


STUDIES = (PublishedClusters(),)
