"""Site ablation: in which projections do a relation's neurons work?

Claim: neurons of the gate projection do nearly all of it, those of the up projection alone
almost nothing. arXiv 2502.17355; METHODS §2, study 11.

1. Neurons of the sites that were not looked at yet are scored with the same prompts and labels.
2. The top k **within** gate, up, down, hidden, attention (q, k, v, o) and all (everything but
   hidden, which switches the same units as gate and up) are switched off: for the own relation,
   for some prompts of every other one, and as many random neurons of the same sites.

What differs from the paper: random sets per site, log P, the site hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.neurons import NeuronIndex, ordered_sites, uniform_random
from broca.scores import NeuronScores
from broca.store import summary_key
from broca.studies.relations.figures import (
    groups_with_spots,
    log_p_drop,
    mean_drop,
    means,
    median,
    other_groups,
    percent,
)
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.study import Bench, Findings, Plan, Results

ATTENTION = ("q", "k", "v", "o")
NOT_IN_ALL = ("hidden",)


class SiteAblation:
    """The top k within each kind of projection."""

    name = "relations.ablation"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Score what is missing, then switch off the top k of every group of sites."""
        chosen = site_groups(material.config.ablated_sites, bench.model.sites)
        scores = _all_scores(material, bench, chosen)
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        extra = {"cells": cells, "sites": chosen}
        plan = material.plan(
            groups_with_spots(material),
            extra=extra,
        )
        for label, sites in chosen.items():
            index = NeuronIndex(material.index.identity, sites)
            k = min(material.k, len(index))
            drawn = uniform_random(index, k, material.config.seed, name=f"uniform-{label}-{k}")
            for name in material.names:
                own = [evaluation_group(name)]
                neurons = scores[name].top(k, name=f"{name}.{label}", sites=sites)
                cells[label, name] = {
                    "own": plan.switch_off(neurons, own)[0],
                    "others": plan.switch_off(neurons, other_groups(material, name)),
                    "uniform": plan.switch_off(drawn, own, control="uniform", seed=0)[0],
                    "units": neurons.n_units,
                    "of": len(index),
                }
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Own, other and random drops per group of sites."""
        cells = results.extra["cells"]
        records = [_record(results, label, name, cell) for (label, name), cell in cells.items()]
        sites = [_site(records, label) for label in results.extra["sites"]]
        return Findings(
            figures=_figures(sites),
            tables={"left_out": left_out(material), "relations": records, "sites": sites},
            words=_words(sites),
        )


def site_groups(wanted: Sequence[str], there: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Group of sites -> its sites that the model has; groups without any are left out."""
    groups: dict[str, tuple[str, ...]] = {}
    for label in wanted:
        if label == "all":
            sites = tuple(site for site in there if site not in NOT_IN_ALL)
        else:
            sites = ATTENTION if label == "attention" else (label,)
        present = [site for site in sites if site in there]
        if present:
            groups[label] = ordered_sites(present)
    return groups


def _all_scores(
    material: Material, bench: Bench, chosen: Mapping[str, Sequence[str]]
) -> dict[str, NeuronScores]:
    """Scores over every site of the groups; only the missing sites are recorded and scored."""
    needed = ordered_sites(site for sites in chosen.values() for site in sites)
    missing = [site for site in needed if site not in material.index.sites]
    parts = [material.scores]
    if missing:
        prompts = [prompt for name in material.names for prompt in material.detection[name]]
        responses = bench.record(prompts, missing, material.config.pooling)
        parts.append(bench.score(responses, material.labellings))
    return {name: join_scores([part[name] for part in parts], needed) for name in material.names}


def join_scores(parts: Sequence[NeuronScores], sites: Sequence[str]) -> NeuronScores:
    """Scores of several indices, of different sites and the same model, in one index."""
    index = NeuronIndex(parts[0].index.identity, tuple(sites))
    values = np.empty(len(index))
    for site, layer, where in index.blocks():
        part = next(part for part in parts if site in part.index.sites)
        values[where] = part.values[part.index.block_slice(site, layer)]
    first = parts[0]
    return NeuronScores(index, values, first.method, first.settings, first.data_hash)


def _record(results: Results, label: str, name: str, cell: Mapping[str, Any]) -> dict[str, Any]:
    own, uniform = results[cell["own"]], results[cell["uniform"]]
    return {
        "sites": label,
        "relation": name,
        "k": cell["own"].k,
        "of": cell["of"],
        "units": cell["units"],
        "n": len(own),
        "before": own.accuracy_before,
        "after": own.accuracy,
        "own_drop": own.drop,
        "other_drop": mean_drop(results, cell["others"]),
        "uniform_drop": uniform.drop,
        "log_p_drop": log_p_drop(own),
        "log_p_uniform": log_p_drop(uniform),
    }


def _site(records: Sequence[dict[str, Any]], label: str) -> dict[str, Any]:
    here = [record for record in records if record["sites"] == label]
    return {
        "sites": label,
        "k": here[0]["k"],
        "of": here[0]["of"],
        "own_drop_median": median(r["own_drop"] for r in here),
        **means(here, "own_drop", "other_drop", "uniform_drop", "log_p_drop", "log_p_uniform"),
    }


def _figures(sites: Sequence[dict[str, Any]]) -> dict[str, float | int | None]:
    return {
        summary_key("ablation", record["sites"], key): record[key]
        for record in sites
        for key in ("k", "own_drop", "own_drop_median", "other_drop", "uniform_drop", "log_p_drop")
    }


def _words(sites: Sequence[dict[str, Any]]) -> list[str]:
    listed = ", ".join(
        f"{r['sites']} {percent(r['own_drop'])} (random {percent(r['uniform_drop'])})"
        for r in sites
    )
    words = [
        f"The top {sites[0]['k']:,} within one kind of projection cost the own relation: {listed}; "
        "means over relations, random neurons of the same sites beside them."
    ]
    whole = [r for r in sites if r["k"] == r["of"]]
    words += [f"Of {r['sites']} that is every one of the {r['of']:,} neurons." for r in whole]
    by_site = {record["sites"]: record for record in sites}
    if "gate" in by_site and "all" in by_site:
        gate, everything = by_site["gate"]["own_drop"], by_site["all"]["own_drop"]
        if everything > 0:
            words.append(f"Gate alone does {gate / everything:.0%} of what all sites together do.")
    return words


STUDIES = (SiteAblation(),)
