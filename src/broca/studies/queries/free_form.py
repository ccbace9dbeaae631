"""Proxy against free form: do letters and whole answers point to the same neurons?

Claim tested: the multiple-choice proxy finds the neurons of the answer itself. The paper assumes
it (arXiv 2406.10868, section 3); it is measured here (ours).

1. Some queries, in turn from every field, are also asked without options ("... is? Answer:").
2. The whole right answer is attributed: the sum over its tokens of each token's attribution in
   log P, at the last position of prompt and answer so far.
3. Clusters and NA-ICA of both forms, over the same queries; overlap of each query's two sets,
   beside its overlap with the other queries' free-form sets, and beside chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.errors import ScoreError
from broca.estimates import bootstrap_mean, bootstrap_paired, sign_flip_test
from broca.scores import QuerySummary, Ranking, select_queries
from broca.studies.queries.attributing import Attributed
from broca.studies.queries.effect_words import with_ends
from broca.studies.queries.effects import spread
from broca.studies.queries.material import Material, Part, QueryBench, near_chance
from broca.studies.study import Findings, Plan, Results

FEWEST = 4  # NA-ICA compares queries


class ProxyAgainstFreeForm:
    """The neurons of a letter beside those of the answer in words."""

    name = "queries.free-form"

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Nothing is asked: both forms are attributed."""
        part = material.part("field", bench, "letters")
        free = material.free_form(part, bench) if material.config.n_free_form else {}
        return Plan({}, extra={"part": part, "free": free})

    def summarise(self, material: Material, results: Results) -> Findings:
        """Overlap of the two sets of every query."""
        part: Part = results.extra["part"]
        free: Mapping[str, Attributed] = results.extra["free"]
        records: list[dict[str, Any]] = []
        totals: list[dict[str, Any]] = []
        for kind, proxy, words in _rankings(part, free, material):
            found = _overlaps(part, kind, proxy, words)
            records += found
            totals += [_total(kind, found, material)] if found else []
        figures: dict[str, Any] = {"queries.free_form.queries": len(free)}
        for total in totals:
            for name in ("own", "own_low", "own_high", "others", "gap", "gap_low", "gap_high", "p"):
                key = name.replace("_low", ".low").replace("_high", ".high")
                figures[f"queries.free_form.{total['kind']}.{key}"] = total[name]
        prompts = [f for one in free.values() for f in one.prompts]
        if prompts:
            figures["queries.free_form.converged_share"] = float(
                np.mean([f.converged for f in prompts])
            )
        near = near_chance(part.accuracy().low, part.chance())
        caution = ["The model answers near chance: this says nothing about knowledge."]
        return Findings(
            figures,
            {"overlaps": records, "totals": totals},
            [
                *(_words(total, material.config.alpha) for total in totals),
                *(caution if near and totals else []),
            ]
            or ["Too few queries to compare with free form."],
        )


def _rankings(
    part: Part, free: Mapping[str, Attributed], material: Material
) -> list[tuple[str, dict[str, Ranking], dict[str, Ranking]]]:
    """Kind -> both forms' neurons of the queries compared: coarse clusters, and NA-ICA."""
    if len(free) < FEWEST:
        return []
    proxy = {query: part.attributed[query].summary for query in free}
    words = {query: one.summary for query, one in free.items()}
    kinds = [
        (
            "cluster",
            {query: one.cluster for query, one in proxy.items()},
            {query: one.cluster for query, one in words.items()},
        )
    ]
    try:
        selected = [_na_ica(each, part, material) for each in (proxy, words)]
    except ScoreError:  # too few queries for the share u, or all neurons common to them
        return kinds
    return [*kinds, ("na-ica", selected[0], selected[1])]


def _na_ica(
    summaries: Mapping[str, QuerySummary], part: Part, material: Material
) -> dict[str, Ranking]:
    config = material.config.scores
    sets = select_queries(
        summaries, part.sets.identity, site=part.sets.site, config=config, methods=("na-ica",)
    )
    return dict(sets.rankings["na-ica"])


def _overlaps(
    part: Part, kind: str, proxy: Mapping[str, Ranking], words: Mapping[str, Ranking]
) -> list[dict[str, Any]]:
    """Per query: share of the smaller set that both have, with its own and with other queries."""
    n_neurons = part.sets.identity.total(part.sets.site)
    usable = [query for query in proxy if len(proxy[query]) and len(words[query])]
    records = []
    for query in usable if len(usable) > 1 else []:
        others = [shared(proxy[query], words[other]) for other in usable if other != query]
        larger = max(len(proxy[query]), len(words[query]))
        records.append(
            {
                "kind": kind,
                "query": query,
                "field": part.questions[query].field,
                "proxy": len(proxy[query]),
                "free": len(words[query]),
                "own": shared(proxy[query], words[query]),
                "others": float(np.mean(others)),
                "chance": larger / n_neurons,
            }
        )
    return records


def shared(a: Ranking, b: Ranking) -> float:
    """Share of the smaller set's neurons that are in both."""
    return len(np.intersect1d(a.neurons, b.neurons)) / min(len(a), len(b))


def _total(kind: str, records: Sequence[Mapping[str, Any]], material: Material) -> dict[str, Any]:
    own, others = (np.array([r[name] for r in records]) for name in ("own", "others"))
    options: dict[str, Any] = {
        "seed": material.config.seed,
        "n_resamples": material.config.n_resamples,
    }
    return {
        "kind": kind,
        "n": len(records),
        **spread("own", bootstrap_mean(own, **options)),
        "others": float(others.mean()),
        **spread("gap", bootstrap_paired(own, others, **options)),
        "p": sign_flip_test(own - others, seed=material.config.seed),
        "chance": float(np.mean([r["chance"] for r in records])),
    }


def _words(total: Mapping[str, Any], alpha: float) -> str:
    what = "coarse clusters" if total["kind"] == "cluster" else "NA-ICA neurons"
    verdict = (
        "more than with other queries' answers"
        if total["gap_low"] > 0 and total["p"] < alpha
        else "which cannot be told from what they share with other queries' answers"
    )
    return (
        f"Of the {what} of letter and answer in words, {with_ends(total, 'own', '.0%')}"
        " of the smaller set are the same "
        f"neurons (n = {total['n']} queries), {verdict} ({total['others']:.0%}; chance "
        f"{total['chance']:.1%})."
    )


STUDIES = (ProxyAgainstFreeForm(),)
