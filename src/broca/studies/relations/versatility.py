"""Versatility: do relations share neurons, and does sharing tell what a set does to others?

Claim: neurons are versatile: related relations share many of them, and so do some unrelated
ones. arXiv 2502.17355; METHODS §2, study 4.

1. Overlap of every pair of sets: count, |A∩B| / min, Jaccard, beside k² / N expected by chance
   and the hypergeometric p-value of so many shared neurons, Holm over all pairs.
2. Shared subjects beside it: relations about the same things could share neurons for that alone.
3. Overlap against effect: Spearman's correlation, over pairs, of overlap with what the two sets
   do to each other (loss of log P, mean of both directions). Pairs are not independent, so the
   p-value permutes the names of the relations in one of the two matrices (Mantel's test).
4. In how many sets each neuron is.

What differs from the paper: chance, shared subjects, the test against effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from broca.estimates import bootstrap_mean
from broca.store import summary_key
from broca.studies.relations.figures import NAN, adjust, interval, log_p_drop, mean, p_words
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.study import Bench, Findings, Plan, Results

N_NAMED = 3  # pairs named in the words


class Versatility:
    """Overlap of sets, beside chance, shared subjects and effect."""

    name = "relations.versatility"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """All sets on all evaluation prompts: what the inter-relation study measures too."""
        conditions: dict[tuple[str, str], Any] = {}
        plan = material.plan(
            material.groups,
            extra={"cells": conditions},
        )
        groups = [evaluation_group(name) for name in material.names]
        for off in material.names:
            switched = plan.switch_off(material.sets[off], groups)
            conditions |= {(a, off): c for a, c in zip(material.names, switched, strict=True)}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """The pairs, and how often neurons are shared."""
        pairs = [_pair(material, results, a, b) for a, b in combinations(material.names, 2)]
        adjust(pairs, "p")
        membership = memberships(material)
        figures = _figures(material, pairs, membership)
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "pairs": pairs, "membership": membership},
            words=_words(pairs, figures, material.config.alpha),
        )


def _pair(material: Material, results: Results, a: str, b: str) -> dict[str, Any]:
    shared = material.sets[a].overlap(material.sets[b])
    subjects = [{p.subject for p in material.detection[name]} for name in (a, b)]
    both, smaller = len(subjects[0] & subjects[1]), min(map(len, subjects))
    n, k_a, k_b = len(material.index), len(material.sets[a]), len(material.sets[b])
    cells = [results[results.extra["cells"][pair]] for pair in ((a, b), (b, a))]
    return {
        "a": a,
        "b": b,
        "count": shared.count,
        "of_smaller": shared.of_smaller,
        "jaccard": shared.jaccard,
        "expected": k_a * k_b / n,
        "p": float(stats.hypergeom.sf(shared.count - 1, n, k_a, k_b)),
        "shared_subjects": both,
        "shared_subjects_of_smaller": both / smaller if smaller else NAN,
        "drop_a": cells[0].drop,
        "drop_b": cells[1].drop,
        "log_p_drop": mean(log_p_drop(cell) for cell in cells),
    }


def memberships(material: Material) -> list[dict[str, Any]]:
    """How many neurons are in exactly how many sets, beside independent sets of the same sizes."""
    counts = Counter(n for neurons in material.sets.values() for n in set(neurons))
    times = Counter(counts.values())
    n, sizes = len(material.index), [len(s) for s in material.sets.values()]
    chance = np.array([1.0])
    for size in sizes:  # number of sets a neuron is in, if each set took its neurons at random
        chance = np.convolve(chance, [1 - size / n, size / n])
    return [
        {"sets": number, "neurons": times[number], "expected": float(n * chance[number])}
        for number in range(1, len(sizes) + 1)
        if times[number] or n * chance[number] >= 0.5
    ]


def mantel_test(
    a: np.ndarray, b: np.ndarray, *, n_permutations: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Spearman's correlation of two symmetric matrices off the diagonal, and its p-value.

    Args:
        a: [name, name].
        b: [name, name]; its names are permuted.
        n_permutations: Number of permutations.
        seed: Draws them.

    Returns:
        Correlation, and the two-sided p-value: how often permuted names correlate as strongly.
        NaN where one of the matrices is constant or fewer than four names are there.
    """
    upper = np.triu_indices(len(a), 1)
    if len(a) < 4 or np.ptp(a[upper]) == 0 or np.ptp(b[upper]) == 0:
        return NAN, NAN
    ranks = [np.zeros_like(a, dtype=float), np.zeros_like(b, dtype=float)]
    for rank, matrix in zip(ranks, (a, b), strict=True):
        rank[upper] = stats.rankdata(matrix[upper])
        rank += rank.T
    rng = np.random.default_rng(seed)
    observed = np.corrcoef(ranks[0][upper], ranks[1][upper])[0, 1]
    extreme = 0
    for _ in range(n_permutations):
        order = rng.permutation(len(a))
        drawn = np.corrcoef(ranks[0][upper], ranks[1][np.ix_(order, order)][upper])[0, 1]
        extreme += int(abs(drawn) >= abs(observed) - 1e-12)
    return float(observed), (extreme + 1) / (n_permutations + 1)


def _matrix(names: Sequence[str], pairs: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    place = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for pair in pairs:
        i, j = place[pair["a"]], place[pair["b"]]
        matrix[i, j] = matrix[j, i] = pair[key]
    return matrix


def _figures(
    material: Material, pairs: Sequence[dict[str, Any]], membership: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    overlap = _matrix(material.names, pairs, "of_smaller")
    options = {"n_permutations": min(material.config.n_permutations, 2000)}
    effect, p_effect = mantel_test(overlap, _matrix(material.names, pairs, "log_p_drop"), **options)
    subjects, p_subjects = mantel_test(
        overlap, _matrix(material.names, pairs, "shared_subjects_of_smaller"), **options
    )
    beyond = bootstrap_mean(
        [
            mean(
                p["of_smaller"] - p["expected"] / material.k
                for p in pairs
                if name in (p["a"], p["b"])
            )
            for name in material.names
        ],
        seed=material.config.seed,
    )
    total = sum(record["neurons"] for record in membership)
    several = sum(record["neurons"] for record in membership if record["sets"] > 1)
    figures: dict[str, float | int | None] = {
        "versatility.pairs": len(pairs),
        "versatility.pairs_above_chance": sum(p["p_holm"] < material.config.alpha for p in pairs),
        "versatility.overlap_mean": mean(p["of_smaller"] for p in pairs),
        "versatility.overlap_chance": mean(p["expected"] / material.k for p in pairs),
        **interval("versatility.overlap_beyond", beyond),
        "versatility.overlap_largest": max(p["of_smaller"] for p in pairs),
        "versatility.neurons": total,
        "versatility.neurons_of_several": several,
        "versatility.share_of_several": several / total if total else NAN,
        "versatility.overlap_with_effect": effect,
        "versatility.overlap_with_effect_p": p_effect,
        "versatility.overlap_with_subjects": subjects,
        "versatility.overlap_with_subjects_p": p_subjects,
    }
    for pair in pairs:
        key = summary_key("versatility", f"{pair['a']}-{pair['b']}", "of_smaller")
        figures[key] = pair["of_smaller"]
    return figures


def _words(pairs: Sequence[dict[str, Any]], figures: dict[str, Any], alpha: float) -> list[str]:
    ranked = sorted(pairs, key=lambda pair: -pair["of_smaller"])[:N_NAMED]
    named = ", ".join(
        f"{p['a']} and {p['b']} {p['of_smaller']:.0%} "
        f"(subjects {p['shared_subjects_of_smaller']:.0%})"
        for p in ranked
    )
    words = [
        f"{figures['versatility.pairs_above_chance']} of {len(pairs)} pairs share more neurons "
        f"than chance (Holm, p < {alpha:g}); in the mean "
        f"{figures['versatility.overlap_mean']:.1%}, by chance "
        f"{figures['versatility.overlap_chance']:.1%}. Most: {named}.",
        f"{figures['versatility.share_of_several']:.0%} of the {figures['versatility.neurons']:,} "
        "neurons that are in a set are in several.",
    ]
    rho, p = (
        figures["versatility.overlap_with_effect"],
        figures["versatility.overlap_with_effect_p"],
    )
    if np.isfinite(rho):
        words.append(_effect_words(rho, p, figures["versatility.overlap_with_subjects"], alpha))
    return words


def _effect_words(rho: float, p: float, subjects: float, alpha: float) -> str:
    """Whether sharing neurons goes with harm."""
    if p < alpha:
        claim = f"Pairs that share more neurons {'hurt' if rho > 0 else 'spare'} each other more"
    else:
        claim = "Sharing neurons does not tell how much two relations hurt each other"
    common = f"; with the share of common subjects {subjects:+.2f}" if np.isfinite(subjects) else ""
    return f"{claim}: rank correlation {rho:+.2f} (names permuted, {p_words(p)}){common}."


STUDIES = (Versatility(),)
