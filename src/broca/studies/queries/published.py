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

NEURONS_PER_QUERY = {"field": 12.9, "language": 15.2}
LAYERS = "15 to 18 and about 30 of 32; common neurons in the top layer"
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


def published_notes(by: str) -> list[str]:
    """What else the paper reports, in sentences."""
    return [
        f"Published ({SOURCE}): {NEURONS_PER_QUERY[by]:g} neurons per query; layers {LAYERS}; "
        f"{SECONDS_PER_QUERY}."
    ]
