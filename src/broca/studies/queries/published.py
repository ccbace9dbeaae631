"""Published figures, as facts with their source; the report sets them beside a run's own.

Source: arXiv 2406.10868 (Llama-2-7B-chat), tables of sections 5 and 6, and a public run of its
released code on its 18 sample queries (Llama-2-7b base, fp16, m = 16, v = 20).
"""

from __future__ import annotations

from typing import Any

SOURCE = "arXiv 2406.10868, Llama-2-7B-chat"

PAPER_ORDER = ("na-ica", "na-ica+common", "na", "knowledge-neurons", "activation", "random")
"""Methods by published PCR; random and activation lie together between 0.55 and 2.0."""

# method -> (domains boost, domains suppress, languages boost, languages suppress)
PCR = {
    "na-ica": (4.4, 5.6, 41.2, 36.0),
    "knowledge-neurons": (1.0, 1.0, 6.7, 1.8),
    "na": (2.5, 1.1, 6.5, 2.2),
    "na-ica+common": (2.8, 1.8, 10.4, 8.5),
}
PCR_OTHERS = "0.55 to 2.0"
"""PCR of random and activation, over all four settings."""

# method -> percent of queries flipped: domains boost, suppress, languages boost, suppress
FLIPS = {"na-ica": (12.6, 18.2, 16.6, 24.8), "knowledge-neurons": (1.4, 3.8, 14.3, 16.0)}

# field -> accuracy of the prediction by neurons, and by prompts
PREDICTION = {"biology": (0.96, 0.96), "chemistry": (0.67, 0.71), "geography": (0.89, 0.89)}

NEURONS_PER_QUERY = {"field": 12.9, "language": 15.2}
LAYERS = "15 to 18 and about 30 of 32; common neurons in the top layer"
REGIONS = "10 to 15 of 32"
REGION_DEPTH = (10.5 / 32, 15.5 / 32)
"""Where the regions of domains lie, as shares of the layers."""
COMMON_LAYER = "in the top layer"
OVERLAP = {"field": (0.35, 0.49), "language": (0.02, 0.13)}
"""Neurons that two domains or languages share, of the smaller set: lowest and highest pair."""
SECONDS_PER_QUERY = "120 s per query on three V100"

RUN_18 = "a public run of the released code on its 18 sample queries (Llama-2-7b, fp16)"
CLUSTER_SIZES = (53, 48, 111, 71, 39, 65, 55, 72, 78, 43, 36, 44, 62, 86, 81, 54, 60, 64)
DISTINCT = 215
IN_ALL = 14
IN_ALL_NAMED = ((9, 9516), (13, 8928), (17, 7383), (20, 6626), (20, 7477))
COMMON = 69
LEFT_PER_QUERY = 9.8
"""Neurons per query that remain with a working filter of common neurons."""


def published_pcr(by: str) -> list[dict[str, Any]]:
    """Published PCR by method, for domains ("field") or languages."""
    first = 0 if by == "field" else 2
    named = [
        {"method": method, "boost": f"{pcr[first]:g}", "suppress": f"{pcr[first + 1]:g}"}
        for method, pcr in PCR.items()
    ]
    return named + [
        {"method": method, "boost": PCR_OTHERS, "suppress": PCR_OTHERS}
        for method in ("activation", "random")
    ]


def published_flips(by: str) -> list[dict[str, Any]]:
    """Published shares of queries flipped, by method, for domains ("field") or languages."""
    first = 0 if by == "field" else 2
    return [
        {"method": method, "boost": share[first] / 100, "suppress": share[first + 1] / 100}
        for method, share in FLIPS.items()
    ]


def published_prediction() -> list[dict[str, Any]]:
    """Published accuracies of the prediction by neurons and by prompts."""
    return [
        {"field": field, "neurons": neurons, "prompts": prompts}
        for field, (neurons, prompts) in PREDICTION.items()
    ]


def published_notes(by: str) -> list[str]:
    """What else the paper reports, in sentences."""
    return [
        f"Published ({SOURCE}): {NEURONS_PER_QUERY[by]:g} neurons per query; layers {LAYERS}; "
        f"{SECONDS_PER_QUERY}."
    ]
