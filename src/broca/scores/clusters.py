"""From attributions of each query to its coarse cluster, and to NA-ICA over all queries.

1. Coarse cluster of a query q (`coarse_cluster`): A_q = sum over its prompts of the attribution
   NA_p; keep neurons with A_q > t · max A_q; na_q = A_q / (sum of all positive A_q).
2. Inverse cluster attribution over the pool C of clusters, one per query of the data set, all
   fields together: ica(n) = ln(|C| / (#{c in C: n in c} + 1)). Empty clusters count in |C|.
3. NA-ICA = na_q(n) · ica(n); drop scores <= 0; keep the top v.
4. Remove the common neurons, those in more than a share u of the clusters.

`variant="released-code"` does what the authors' code does instead: in step 1 a neuron is kept if
in any prompt NA_p > t · max NA_p of that prompt; scores are rounded to 6 decimals (each prompt's,
in our reading) and summed over the prompts in which the neuron passed; the divisor is the sum over
the cluster. Step 4 removes nothing there.

Neurons are flat positions layer · width + index of one site.

Source: arXiv 2406.10868 and its code; METHODS §3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from broca.errors import ScoreError
from broca.settings import Count, check_settings

Variant = Literal["paper", "released-code"]


@dataclass(frozen=True)
class QueryScoreConfig:
    """Settings of NA-ICA; the defaults are the paper's.

    Attributes:
        t: A neuron enters a cluster above this share of the largest attribution, 0 <= t < 1.
        u: A neuron in more than this share of the clusters is common, 0 < u <= 1.
        v: Neurons kept per query before common ones are removed, at least 1.
        variant: "paper", or "released-code" with its quirks.
    """

    t: Annotated[float, Field(ge=0, lt=1)] = 0.2
    u: Annotated[float, Field(gt=0, le=1)] = 0.3
    v: Count = 20
    variant: Variant = "paper"

    def __post_init__(self) -> None:
        check_settings(self, ScoreError)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Neurons of one query with their scores.

    Attributes:
        neurons: Flat positions layer · width + index, int64 [neuron]; in rank order, or ascending
            in a coarse cluster.
        scores: float64 [neuron].
    """

    neurons: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.neurons)

    def top(self, n: int) -> Ranking:
        """The n best, ties in the order of positions; all of them if there are fewer."""
        order = np.lexsort((self.neurons, -self.scores))[:n]
        return Ranking(self.neurons[order], self.scores[order])

    @classmethod
    def highest(cls, values: np.ndarray, n: int) -> Ranking:
        """The n largest of values [neuron], ties in the order of positions."""
        n = min(n, len(values))
        least = np.partition(values, len(values) - n)[len(values) - n]
        candidates = np.flatnonzero(values >= least)
        return cls(candidates, values[candidates]).top(n)

    def where(self, keep: np.ndarray) -> Ranking:
        """The neurons for which keep, bool [neuron], holds, in the same order."""
        return Ranking(self.neurons[keep], self.scores[keep])


def coarse_cluster(attributions: np.ndarray, config: QueryScoreConfig | None = None) -> Ranking:
    """Neurons of a query above the threshold, with na_q; empty if no attribution is positive.

    Args:
        attributions: NA of one query, [prompt, layer, neuron].
        config: Settings.

    Raises:
        ScoreError: No prompt, or attributions that are not finite.
    """
    config = config or QueryScoreConfig()
    prompts = flat_prompts(attributions, "Attributions")
    if config.variant == "paper":
        total = prompts.sum(axis=0, dtype=np.float64)
        neurons = np.flatnonzero(passed(total[None], config.t)[0])
        scores, divisor = total[neurons], total[total > 0].sum()
    else:
        above = passed(prompts, config.t)
        neurons = np.flatnonzero(above.any(axis=0))
        rounded = np.round(prompts[:, neurons].astype(np.float64), 6)
        scores = np.where(above[:, neurons], rounded, 0.0).sum(axis=0)
        divisor = scores.sum()
    # All scores of a cluster may round to 0.
    return Ranking(neurons, scores / divisor if divisor > 0 else np.zeros(len(neurons)))


def passed(attributions: np.ndarray, t: float) -> np.ndarray:
    """Which neurons exceed t · largest of their prompt, [prompt, neuron]; none if it is <= 0."""
    largest = attributions.max(axis=1, keepdims=True)
    return (attributions > t * largest) & (largest > 0)


def flat_prompts(values: np.ndarray, what: str) -> np.ndarray:
    """[prompt, layer, neuron] as [prompt, flat position], checked.

    Raises:
        ScoreError: Wrong shape, no prompt, or values that are not finite.
    """
    array = np.asarray(values)
    if array.ndim != 3 or 0 in array.shape:
        raise ScoreError(
            f"{what} of shape {array.shape}", mend="One query is [prompt, layer, neuron]."
        )
    if not np.isfinite(array).all():
        raise ScoreError(f"{what} hold NaN or infinity")
    return array.reshape(len(array), -1)


def count_clusters(clusters: Sequence[Ranking], n_neurons: int) -> np.ndarray:
    """In how many clusters each neuron is, int64 [neuron]."""
    members = [cluster.neurons for cluster in clusters]
    return np.bincount(np.concatenate([np.empty(0, np.int64), *members]), minlength=n_neurons)


def inverse_cluster_attribution(clusters: Sequence[Ranking], n_neurons: int) -> np.ndarray:
    """ica(n) = ln(|C| / (#{c: n in c} + 1)), float64 [neuron].

    Raises:
        ScoreError: Fewer than three clusters: then no neuron of a cluster has a positive value.
    """
    if len(clusters) < 3:
        raise ScoreError(
            f"NA-ICA of {len(clusters)} queries is never positive",
            mend="It compares queries: it needs at least three.",
        )
    return np.log(len(clusters) / (count_clusters(clusters, n_neurons) + 1.0))


def common_neurons(clusters: Sequence[Ranking], u: float, n_neurons: int) -> Ranking:
    """Neurons in more than a share u of the clusters, with their share, most common first."""
    share = count_clusters(clusters, n_neurons) / max(1, len(clusters))
    neurons = np.flatnonzero(share > u)
    return Ranking(neurons, share[neurons]).top(len(neurons))


def rank_na_ica(clusters: Sequence[Ranking], n_neurons: int) -> list[Ranking]:
    """Each cluster's neurons of positive NA-ICA, in rank order: before top v and common ones.

    Raises:
        ScoreError: As `inverse_cluster_attribution`.
    """
    ica = inverse_cluster_attribution(clusters, n_neurons)
    scored = [Ranking(c.neurons, c.scores * ica[c.neurons]) for c in clusters]
    return [s.where(s.scores > 0).top(len(s)) for s in scored]
