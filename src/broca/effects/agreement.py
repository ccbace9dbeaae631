"""How a locator's numbers agree with exact effects, neuron by neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def agreement(values: np.ndarray, loss: np.ndarray, top: int) -> dict[str, Any]:
    """Agreement of numbers with exact losses, each [layer, neuron].

    Correlations are those of the neurons that were measured (loss not NaN), recall the share of
    the `top` neurons of the largest loss that are among the first `top` by the numbers. Both are
    NaN where there is no neuron, behind the end of a layer that is narrower than others.

    Returns:
        `spearman`, `pearson`, `recall`, and `spearman_by_layer`, a list.
    """
    first = set(ranked(loss)[:top].tolist())
    return {
        "spearman": _correlation(stats.spearmanr, values, loss),
        "pearson": _correlation(stats.pearsonr, values, loss),
        "recall": len(first & set(ranked(values)[:top].tolist())) / top,
        "spearman_by_layer": [
            _correlation(stats.spearmanr, a, b) for a, b in zip(values, loss, strict=True)
        ],
    }


def ranked(values: np.ndarray) -> np.ndarray:
    """Places in the flattened array, highest first, ties in index order, NaN last."""
    return np.argsort(-values.ravel().astype(np.float64), kind="stable")


def _correlation(function: Any, a: np.ndarray, b: np.ndarray) -> float:
    """A correlation over the neurons measured, 0 where one side is constant."""
    measured = ~np.isnan(b)
    a, b = a[measured].astype(np.float64), b[measured].astype(np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(function(a, b)[0])
