"""What the estimates share: checked samples and the direction of a test."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from broca.errors import EstimateError

Alternative = Literal["greater", "less", "two-sided"]


def finite_values(values: ArrayLike) -> np.ndarray:
    """Values as one float64 array, refused if they are not finite or not one-dimensional."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise EstimateError(f"Values must be one-dimensional, not of shape {array.shape}")
    if not np.isfinite(array).all():
        raise EstimateError(
            "Values hold NaN or infinity",
            where=f"{np.count_nonzero(~np.isfinite(array))} of {len(array)}",
            mend="Leave out what is undefined before estimating.",
        )
    return array


def oriented(values, alternative: Alternative):
    """Turns "less" into "greater" by changing the sign."""
    if alternative not in ("greater", "less", "two-sided"):
        raise EstimateError(
            "Unknown alternative", where=str(alternative), mend="greater, less or two-sided."
        )
    return -values if alternative == "less" else values
