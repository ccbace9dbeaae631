"""Neurons of every query by NA-ICA and by the baselines it is compared with.

Attributions of a query are dense (every neuron of every layer) and come one query at a time:
`summarise_query` keeps the few neurons of each that any method may need, and `select_queries`
chooses once all queries are known. Each baseline gives a query as many neurons as NA-ICA found:

- `na-ica`: the method, see `broca.scores.clusters`;
- `na-ica+common`: common neurons are not removed;
- `na`: ranked by na_q alone, without ICA;
- `knowledge-neurons`: above the threshold in more than half of the prompts, ranked by mean
  attribution; fewer, where fewer pass;
- `activation`: highest value, mean over the prompts;
- `random`: uniform over all neurons of the site.

Further methods are those whose rankings the summaries bring along (`QuerySummary.located`).

Source: arXiv 2406.10868; METHODS §3.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from broca.errors import ScoreError
from broca.neurons import ModelIdentity
from broca.scores.clusters import (
    QueryScoreConfig,
    Ranking,
    coarse_cluster,
    common_neurons,
    flat_prompts,
    passed,
    rank_na_ica,
)
from broca.scores.query_sets import QuerySets

QUERY_METHODS = (
    "na-ica",
    "na-ica+common",
    "na",
    "knowledge-neurons",
    "activation",
    "random",
)


@dataclass(frozen=True, eq=False)
class QuerySummary:
    """What is kept of a query's attributions and activations.

    Attributes:
        cluster: Its coarse cluster with na_q.
        knowledge: Neurons above the threshold in more than half of the prompts, at most v, by
            mean attribution.
        activation: The v neurons of the highest mean value; None if no activations were given.
        located: Further method -> its v best neurons.
    """

    cluster: Ranking
    knowledge: Ranking
    activation: Ranking | None
    located: Mapping[str, Ranking] = field(default_factory=dict)


def summarise_query(
    attributions: np.ndarray,
    activations: np.ndarray | None = None,
    config: QueryScoreConfig | None = None,
) -> QuerySummary:
    """Reduce one query to the neurons that a method may choose.

    Args:
        attributions: NA, float32 [prompt, layer, neuron].
        activations: Values of the same neurons at the last position, the same shape; only the
            activation baseline needs them.
        config: Settings.

    Raises:
        ScoreError: Shapes do not fit, no prompt, or values that are not finite.
    """
    config = config or QueryScoreConfig()
    prompts = flat_prompts(attributions, "Attributions")
    shared = passed(prompts, config.t).sum(axis=0) * 2 > len(prompts)
    knowledge = np.flatnonzero(shared)
    mean = prompts[:, knowledge].mean(axis=0, dtype=np.float64)
    active = None
    if activations is not None:
        values = flat_prompts(activations, "Activations")
        if values.shape != prompts.shape:
            raise ScoreError(
                f"Activations of shape {np.shape(activations)} beside attributions of shape "
                f"{np.shape(attributions)}"
            )
        active = Ranking.highest(values.mean(axis=0, dtype=np.float64), config.v)
    return QuerySummary(
        coarse_cluster(attributions, config), Ranking(knowledge, mean).top(config.v), active
    )


def select_queries(
    summaries: Mapping[str, QuerySummary],
    identity: ModelIdentity,
    *,
    site: str = "hidden",
    config: QueryScoreConfig | None = None,
    methods: Sequence[str] = QUERY_METHODS,
    seed: int = 0,
) -> QuerySets:
    """Neurons of every query by every method.

    Args:
        summaries: Query id -> what `summarise_query` kept of it, with the same settings.
        identity: The model.
        site: The site of the attributions.
        config: Settings.
        methods: Names out of `QUERY_METHODS`, or of the summaries' further methods.
        seed: Seed of the random baseline.

    Raises:
        ScoreError: An unknown method, fewer than three queries, so few that even a neuron of one
            query is common, the activation baseline without activations, or no neuron at all.
    """
    config = config or QueryScoreConfig()
    n_neurons = identity.n_layers * identity.width(site)  # of the arrays [layer, neuron]
    _check(summaries, config, methods, n_neurons)
    clusters = [summary.cluster for summary in summaries.values()]
    ranked = rank_na_ica(clusters, n_neurons)
    common = common_neurons(clusters, config.u, n_neurons)
    found = [r.top(config.v) for r in ranked]
    if config.variant == "paper":
        found = [f.where(~np.isin(f.neurons, common.neurons)) for f in found]
    if not any(len(f) for f in found):
        raise ScoreError(
            "No query keeps a neuron",
            where=f"{len(clusters)} queries, {len(common)} common neurons",
            mend="All are common or below the threshold: use more varied queries, or a larger u.",
        )
    rankings: dict[str, dict[str, Ranking]] = {method: {} for method in methods}
    for (query, summary), own, every in zip(summaries.items(), found, ranked, strict=True):
        for method in methods:
            rankings[method][query] = _choose(
                method, query, summary, own, every, identity.positions(site), seed
            )
    return QuerySets(identity, site, config, seed, rankings, common)


def _choose(
    method: str,
    query: str,
    summary: QuerySummary,
    own: Ranking,
    every: Ranking,
    positions: np.ndarray,
    seed: int,
) -> Ranking:
    """A method's neurons for one query, given NA-ICA's own and all of positive NA-ICA.

    ``positions`` are those of all neurons: behind the end of a layer that is narrower than others
    there is none, and 0 is the highest value where all others are below.
    """
    n = len(own)
    if method == "na-ica":
        return own
    if method == "na-ica+common":
        return every.top(n)
    if method == "na":
        return summary.cluster.top(n)
    if method == "knowledge-neurons":
        return summary.knowledge.top(n)
    if method in summary.located:
        return summary.located[method].top(n)
    if method == "activation":
        if summary.activation is None:
            raise ScoreError(
                "The activation baseline needs activations",
                where=query,
                mend="Pass them to summarise_query, or leave the method out.",
            )
        active = summary.activation
        return active.where(np.isin(active.neurons, positions)).top(n)
    rng = np.random.default_rng([seed, zlib.crc32(query.encode())])
    drawn = positions[np.sort(rng.choice(len(positions), n, replace=False))]
    return Ranking(drawn.astype(np.int64), np.full(n, np.nan))


def _check(
    summaries: Mapping[str, QuerySummary],
    config: QueryScoreConfig,
    methods: Sequence[str],
    n_neurons: int,
) -> None:
    brought = [set(summary.located) for summary in summaries.values()]
    known = {*QUERY_METHODS, *(set.intersection(*brought) if brought else ())}
    unknown = [method for method in methods if method not in known]
    if unknown:
        raise ScoreError(
            f"Unknown method {unknown[0]!r}", mend=f"The methods are {', '.join(QUERY_METHODS)}."
        )
    # Every neuron of a cluster is in one of them at least.
    if config.variant == "paper" and len(summaries) >= 3 and 1 / len(summaries) > config.u:
        raise ScoreError(
            f"With {len(summaries)} queries a neuron of one query counts as common",
            where=f"u = {config.u}",
            mend=f"Use at least {math.ceil(1 / config.u)} queries, or a larger u.",
        )
    for query, summary in summaries.items():
        if len(summary.cluster) and summary.cluster.neurons.max() >= n_neurons:
            raise ScoreError(
                "A query's attributions do not fit the model", query, f"It has {n_neurons} neurons."
            )
