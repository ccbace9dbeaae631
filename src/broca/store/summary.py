"""The figures of a run as one flat table of names and numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any


def summary_key(*parts: object) -> str:
    """A dotted key from its parts; signs that cannot stand in a key become underscores."""
    return ".".join(re.sub(r"[^\w-]+", "_", str(part)).strip("_") or "_" for part in parts)


def flat_summary(figures: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Nested or flat figures as dotted keys to finite numbers or None.

    NaN and infinity (an accuracy drop from nothing, a quotient by zero) become None: JSON has
    neither.

    Raises:
        TypeError: A value is no number.
        ValueError: Two figures have the same key, or a key is malformed.
    """
    flat: dict[str, float | int | None] = {}
    for key, value in _leaves(figures, ""):
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
            raise ValueError(f"not a dotted key: {key!r}; build it with summary_key")
        if key in flat:
            raise ValueError(f"two figures are called {key!r}")
        flat[key] = _number(key, value)
    return flat


def _leaves(figures: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    leaves = []
    for key, value in figures.items():
        nested = isinstance(value, Mapping)
        leaves += _leaves(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return leaves


def _number(key: str, value: Any) -> float | int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"the figure {key!r} is no number: {value!r}")
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None
