"""Layers and sites: where do the relation neurons sit?

Claim: relation neurons sit mostly in the middle layers.
arXiv 2502.17355; METHODS §2, study 7.

1. Neurons of every set by site and layer, and the share of each site that is in the set, so that
   wide sites do not win by their width.
2. Thirds of the layers, and the mean layer of each set (0 the first, 1 the last), with an
   interval over relations; evenly spread sets would have 1/2.

Nothing is switched off here. What differs from the paper: shares of sites, intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from broca.store import summary_key
from broca.studies.relations.figures import interval, mean_estimate
from broca.studies.relations.material import Material, left_out
from broca.studies.study import Bench, Findings, Plan, Results

THIRDS = ("lower", "middle", "upper")


class Layers:
    """Where the sets are."""

    name = "relations.layers"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """No prompt is asked."""
        return Plan({})

    def summarise(self, material: Material, results: Results) -> Findings:
        """Neurons by site and layer, and by third."""
        sets = [_set(material, name) for name in material.names]
        sites = [_site(material, site) for site in material.index.sites]
        places = [
            {"set": name, "site": site, "layer": layer, "n": n}
            for name in material.names
            for (site, layer), n in material.sets[name].counts().items()
        ]
        figures: dict[str, float | int | None] = {}
        for key in ("depth", *THIRDS):
            estimate = mean_estimate(np.array([s[key] for s in sets]), material.config)
            figures |= {f"layers.{k}": v for k, v in interval(key, estimate).items()}
        for record in sites:
            figures[summary_key("layers", record["site"], "share")] = record["share"]
            figures[summary_key("layers", record["site"], "enriched")] = record["enriched"]
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "sets": sets, "sites": sites, "places": places},
            words=_words(material, figures, sites),
        )


def third_of(layer: int, n_layers: int) -> str:
    """Lower, middle or upper third."""
    return THIRDS[min(2, 3 * layer // n_layers)]


def _set(material: Material, name: str) -> dict[str, Any]:
    neurons, n_layers = material.sets[name], material.index.identity.n_layers
    thirds = Counter(third_of(int(layer), n_layers) for layer in neurons.layers)
    depth = neurons.layers.mean() / (n_layers - 1) if n_layers > 1 else 0.5
    return {
        "set": name,
        "neurons": len(neurons),
        "units": neurons.n_units,
        "depth": float(depth),
        **{third: thirds[third] / len(neurons) for third in THIRDS},
    }


def _site(material: Material, site: str) -> dict[str, Any]:
    """How much of all sets is at a site, beside how much of all neurons is."""
    identity = material.index.identity
    there = sum(len(neurons.only(site=site)) for neurons in material.sets.values())
    total = sum(len(neurons) for neurons in material.sets.values())
    of_all = identity.total(site) / len(material.index)
    return {
        "site": site,
        "neurons": there,
        "share": there / total,
        "of_all_neurons": of_all,
        "enriched": there / total / of_all,
    }


def _words(
    material: Material, figures: dict[str, Any], sites: Sequence[dict[str, Any]]
) -> list[str]:
    n_layers = material.index.identity.n_layers
    thirds = ", ".join(f"{third} {figures[f'layers.{third}']:.0%}" for third in THIRDS)
    most = max(THIRDS, key=lambda third: figures[f"layers.{third}"])
    listed = ", ".join(
        f"{r['site']} {r['share']:.0%} (of all neurons {r['of_all_neurons']:.0%})" for r in sites
    )
    words = [f"By site: {listed}."]
    if n_layers >= 3:
        words.insert(0, f"Neurons by third of the {n_layers} layers: {thirds}; most in the {most}.")
    return words


STUDIES = (Layers(),)
