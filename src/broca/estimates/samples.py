"""What the estimates share: checked samples, groups, and the direction of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from broca.errors import EstimateError

Alternative = Literal["greater", "less", "two-sided"]
Groups = Sequence[object] | np.ndarray | None

CHUNK = 1 << 21  # numbers drawn at a time, so that memory does not grow with the resamples


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


def check_samples(
    arrays: Sequence[np.ndarray], groups: Groups, level: float, n_resamples: int = 1
) -> None:
    """Refuse what no interval can be made of.

    Raises:
        EstimateError: Empty or unequal samples, groups that do not fit, an impossible level.
    """
    lengths = [len(array) for array in arrays]
    if not lengths or min(lengths) == 0:
        raise EstimateError("An interval needs at least one observation")
    if len(set(lengths)) > 1:
        raise EstimateError(f"Paired samples differ in length: {lengths}")
    if groups is not None and len(groups) != lengths[0]:
        raise EstimateError(f"{len(groups)} group labels for {lengths[0]} observations")
    if n_resamples < 1 or not 0 < level < 1:
        raise EstimateError(
            f"A bootstrap cannot have {n_resamples} resamples at level {level}",
            mend="Resamples are at least 1, the level lies between 0 and 1.",
        )


def codes(groups: Sequence[object] | np.ndarray) -> tuple[int, np.ndarray]:
    """Number of groups, and the number of each observation's group."""
    known: dict[object, int] = {}
    code = np.array([known.setdefault(group, len(known)) for group in groups])
    return len(known), code


def group_totals(arrays: Sequence[np.ndarray], groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Sums per group, [group, sample], and group sizes, [group]; a group per row if none given."""
    table = np.stack(arrays, axis=1)
    if groups is None:
        return table, np.ones(len(table))
    n_groups, code = codes(groups)
    totals = np.zeros((n_groups, table.shape[1]))
    np.add.at(totals, code, table)
    return totals, np.bincount(code).astype(float)


def draw_counts(n: int, n_resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Chunks of [resample, n]: how often each of n units was drawn in each resample."""
    step = max(1, CHUNK // n)
    for start in range(0, n_resamples, step):
        rows = rng.integers(0, n, (min(step, n_resamples - start), n))
        cells = rows + np.arange(len(rows))[:, None] * n
        yield np.bincount(cells.ravel(), minlength=rows.size).reshape(rows.shape).astype(float)
