"""Numbers per prompt made into tables: means with intervals, and paired with the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from broca.estimates import bootstrap_mean, bootstrap_paired
from broca.locators import find_locator
from broca.studies.locators.config import LocatorsConfig

Unit = Mapping[str, Any]
Read = Callable[[Mapping[str, Any]], float]


def column(units: Sequence[Unit], locator: str, read: Read) -> np.ndarray:
    """One number per prompt of a locator."""
    return np.array([read(unit["locators"][locator]) for unit in units], dtype=float)


def compared(
    units: Sequence[Unit], config: LocatorsConfig, figures: Mapping[str, Read]
) -> list[dict[str, Any]]:
    """A record per locator: mean of each figure, its interval, and the paired gap to the reference.

    Args:
        units: What was kept of each prompt.
        config: The settings.
        figures: Name -> reads it of a locator's figures of one prompt.
    """
    records = []
    for name in config.locators:
        record: dict[str, Any] = {
            "locator": name,
            "title": find_locator(name).title,
            "n": len(units),
            "seconds": float(column(units, name, lambda one: one["seconds"]).mean()),
        }
        for figure, read in figures.items():
            own = column(units, name, read)
            against = column(units, config.reference, read)
            n = config.n_resamples
            mean = bootstrap_mean(own, seed=config.seed, n_resamples=n)
            gap = bootstrap_paired(own, against, seed=config.seed, n_resamples=n)
            record |= {
                figure: mean.value,
                f"{figure}_low": mean.low,
                f"{figure}_high": mean.high,
                f"{figure}_gap": gap.value,
                f"{figure}_gap_low": gap.low,
                f"{figure}_gap_high": gap.high,
            }
        records.append(record)
    return records


def winners(
    units: Sequence[Unit], config: LocatorsConfig, read: Read, *, lowest: bool = False
) -> list[str]:
    """The locators that no other one beats: the best mean, and those whose paired interval with it
    holds 0. Random numbers and the exact effect itself are no candidates."""
    names = [name for name in config.locators if name not in ("random", "exact")]
    sign = -1.0 if lowest else 1.0
    columns = {name: sign * column(units, name, read) for name in names}
    best = max(names, key=lambda name: float(columns[name].mean()))

    def is_beaten(name: str) -> bool:
        gap = bootstrap_paired(
            columns[best], columns[name], seed=config.seed, n_resamples=config.n_resamples
        )
        return gap.low > 0

    return [name for name in names if name == best or not is_beaten(name)]


def flat_figures(
    study: str, records: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, float]:
    """Records as flat figures of the summary."""
    return {f"{study}.{r['locator']}.{name}": float(r[name]) for r in records for name in names}


def told(record: Mapping[str, Any], figure: str, digits: int = 2) -> str:
    """A figure with its interval in words."""
    low, high = record[f"{figure}_low"], record[f"{figure}_high"]
    return f"{record[figure]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
