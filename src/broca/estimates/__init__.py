"""Values with intervals and p-values, each with the simulation that backs it.

Deterministic by their seeds; they know numbers only, no models (METHODS §7, `docs/statistics.md`).
"""

from broca.estimates.areas import auroc
from broca.estimates.estimate import FEWEST, Estimate
from broca.estimates.medians import median
from broca.estimates.permutation import (
    holm,
    max_statistic_test,
    random_sets_test,
    sign_flip_test,
)
from broca.estimates.power import fewest_sets, fewest_to_flip
from broca.estimates.ranks import RankTest, rank_sum_test, wilcoxon_test
from broca.estimates.ratios import ratio
from broca.estimates.resampling import (
    absolute_gap,
    bootstrap,
    bootstrap_mean,
    bootstrap_paired,
    difference,
)
from broca.estimates.samples import Alternative
from broca.estimates.shares import relative_loss, share, wilson
from broca.estimates.verdicts import Verdict, judge, judge_agreement

__all__ = [
    "FEWEST",
    "Alternative",
    "Estimate",
    "RankTest",
    "Verdict",
    "absolute_gap",
    "auroc",
    "bootstrap",
    "bootstrap_mean",
    "bootstrap_paired",
    "difference",
    "fewest_sets",
    "fewest_to_flip",
    "holm",
    "judge",
    "judge_agreement",
    "max_statistic_test",
    "median",
    "random_sets_test",
    "rank_sum_test",
    "ratio",
    "relative_loss",
    "share",
    "sign_flip_test",
    "wilcoxon_test",
    "wilson",
]
