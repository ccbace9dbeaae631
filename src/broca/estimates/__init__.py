"""Values with intervals and p-values: bootstrap, permutation, Holm, rank tests, AUROC.

Everything is deterministic by its seed and knows numbers only, no models (METHODS §7).
"""

from broca.estimates.permutation import holm, random_sets_test, sign_flip_test
from broca.estimates.ranks import RankTest, rank_sum_test, wilcoxon_test
from broca.estimates.resampling import (
    Estimate,
    absolute_gap,
    absolute_ratio,
    auroc,
    bootstrap,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_paired,
    bootstrap_ratio,
    difference,
)
from broca.estimates.samples import Alternative

__all__ = [
    "Alternative",
    "Estimate",
    "RankTest",
    "absolute_gap",
    "absolute_ratio",
    "auroc",
    "bootstrap",
    "bootstrap_mean",
    "bootstrap_median",
    "bootstrap_paired",
    "bootstrap_ratio",
    "difference",
    "holm",
    "random_sets_test",
    "rank_sum_test",
    "sign_flip_test",
    "wilcoxon_test",
]
