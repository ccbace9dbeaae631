"""Overlap: how many neurons two fields have in common.

Claim: fields have neurons of their own, languages more so than domains. arXiv 2406.10868, section
6 (domains share 35 to 49 % of the smaller set, languages 2 to 13 %); METHODS §3, analysis 2.

1. The neurons of a field: those of all its queries together (NA-ICA, common ones removed).
2. Of every two fields: |A ∩ B| / min(|A|, |B|), and |A ∩ B| / |A ∪ B| (Jaccard).
3. Both of shuffled fields (`shuffled.py`), which keep the number of queries: larger groups share
   more whatever they are. Two-sided p per pair, Holm over pairs; and of the mean over pairs.
4. What two random sets of these sizes would share: max(|A|, |B|) / all neurons.

What differs from the paper: the two chance levels and the tests. There is no bootstrap interval:
queries drawn twice make smaller sets, so it would not hold what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.store import summary_key
from broca.studies.queries import published
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.material import Part
from broca.studies.queries.shuffled import (
    FieldScores,
    ShuffledStudy,
    add_holm,
    against_shuffled,
    listed,
    shuffled_figures,
)
from broca.studies.study import Findings


class Overlap(ShuffledStudy):
    """The overlap study."""

    def compare(self, part: Part, scores: FieldScores, config: QueriesConfig) -> Findings:
        """The matrix, against shuffled fields."""
        n_neurons = part.sets.identity.total(part.sets.site)
        whole, pairs = pair_records(scores, n_neurons, config.n_permutations, config.seed)
        sizes = pooled_counts(scores, scores.codes[None])[0].diagonal()
        shares = [pair["overlap"] for pair in pairs]
        figures: dict[str, Any] = {
            f"{self.prefix}.pairs": len(pairs),
            **shuffled_figures(self.prefix, whole, "mean"),
            f"{self.prefix}.lowest": min(shares),
            f"{self.prefix}.highest": max(shares),
            f"{self.prefix}.random_neurons": whole["random"],
        }
        for pair in pairs:
            start = f"{self.prefix}.{summary_key('pairs', pair['a'], pair['b'])}"
            figures |= shuffled_figures(start, pair, "overlap")
            figures[f"{start}.jaccard"] = pair["jaccard"]
        low, high = published.OVERLAP[self.by]
        tables: dict[str, list[dict[str, Any]]] = {
            "pairs": pairs,
            "whole": [whole],
            "sets": [
                {"field": field, "queries": int(queries), "neurons": int(n)}
                for field, queries, n in zip(scores.fields, scores.sizes, sizes, strict=True)
            ],
            "published": [
                {
                    "figure": "shared of the smaller set, lowest to highest pair",
                    "ours": f"{min(shares):.2f} to {max(shares):.2f}",
                    "published": f"{low:.2f} to {high:.2f}",
                }
            ],
        }
        words = overlap_words(whole, pairs, config.alpha, self.by)
        return Findings(figures, tables, words)


def pooled_counts(scores: FieldScores, codes: np.ndarray) -> np.ndarray:
    """Neurons that two fields have in common, [draw, field, field]; own ones: the diagonal."""
    # counts are exact in float32, and twice as fast
    has = (scores.scores > 0).astype(np.float32)
    pooled = (scores.members(codes).astype(np.float32) @ has > 0).astype(np.float32)
    return (pooled @ pooled.transpose(0, 2, 1)).astype(float)


def overlaps(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shared of the smaller set, and Jaccard: [..., pair] each, pairs in the order of triu."""
    n = counts.shape[-1]
    first, second = np.triu_indices(n, 1)
    sizes = np.diagonal(counts, axis1=-2, axis2=-1)
    shared, a, b = counts[..., first, second], sizes[..., first], sizes[..., second]
    return shared / np.minimum(a, b), shared / (a + b - shared)


def pair_records(
    scores: FieldScores, n_neurons: int, n: int, seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The mean over pairs, and every pair of fields."""

    def shares(codes: np.ndarray) -> np.ndarray:
        smaller, jaccard = overlaps(pooled_counts(scores, codes))
        return np.concatenate([smaller.mean(axis=1, keepdims=True), smaller, jaccard], axis=1)

    size = len(scores.fields) * (len(scores.neurons) + len(scores.queries))
    tested = against_shuffled(scores, shares, n=n, seed=seed, size=size, alternative="two-sided")
    counts = pooled_counts(scores, scores.codes[None])[0]
    first, second = np.triu_indices(len(scores.fields), 1)
    pairs = []
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        jaccard = tested[1 + len(first) + i]
        pairs.append(
            {
                "a": scores.fields[a],
                "b": scores.fields[b],
                "n_a": int(counts[a, a]),
                "n_b": int(counts[b, b]),
                "shared": int(counts[a, b]),
                **tested[1 + i].record("overlap"),
                "jaccard": jaccard.value,
                "jaccard_shuffled": jaccard.shuffled,
                "random": float(max(counts[a, a], counts[b, b]) / n_neurons),
            }
        )
    add_holm(pairs)
    random = float(np.mean([pair["random"] for pair in pairs]))
    return {"n": len(scores.queries), **tested[0].record("mean"), "random": random}, pairs


def overlap_words(
    whole: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], alpha: float, by: str
) -> list[str]:
    """The mean and the pairs in sentences."""
    below = [p for p in pairs if p["p_holm"] < alpha and p["overlap"] < p["shuffled"]]
    above = [p for p in pairs if p["p_holm"] < alpha and p["overlap"] > p["shuffled"]]
    shares = [pair["overlap"] for pair in pairs]
    if whole["p"] >= alpha:
        verdict = f"it cannot be told that {by}s share more or fewer neurons than any groups"
    elif whole["mean"] < whole["shuffled"]:
        verdict = f"{by}s have neurons of their own"
    else:
        verdict = f"{by}s share more neurons than groups put together at random"
    low, high = published.OVERLAP[by]
    words = [
        f"Two {by}s share {whole['mean']:.0%} of the smaller one's neurons in the mean of "
        f"{len(pairs)} pairs ({min(shares):.0%} to {max(shares):.0%}; published {low:.0%} to "
        f"{high:.0%}); with {by}s shuffled {whole['shuffled']:.0%} "
        f"[{whole['shuffled_low']:.0%}, {whole['shuffled_high']:.0%}] (p = {whole['p']:.2g}, "
        f"n = {whole['n']} queries), random neurons {whole['random']:.1%}: {verdict}.",
        f"Pair by pair, after Holm's correction, {len(below)} of {len(pairs)} share fewer neurons "
        f"than shuffled ones and {len(above)} more"
        + (f": {listed([_pair(pair) for pair in above])}." if above else "."),
    ]
    return words


def _pair(pair: Mapping[str, Any]) -> str:
    return f"{pair['a']} with {pair['b']}"


STUDIES = (
    Overlap("queries.overlap", "field", "queries.overlap"),
    Overlap("queries.overlap.languages", "language", "queries.overlap.languages"),
)
