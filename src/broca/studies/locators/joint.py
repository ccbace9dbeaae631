"""Does a locator find the neurons that carry an answer together?

Claim: the first neurons of a ranking, switched off together, cost this answer and spare others.

1. The first k neurons of each locator's ranking are replaced by 0 at the last position, k growing,
   on the own prompt and on a prompt of another relation.
2. P of the answer left, as a curve over k; its mean over log k is the area: low is good for the
   own prompt, 1 is harmless for the other.
3. Selectivity: area of the other prompt minus area of the own.

Source: METHODS, "Locators and the truth": single truth and joint truth are different questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.estimates import bootstrap_mean
from broca.locators import find_locator
from broca.studies.locators.agreement import judged_prompts
from broca.studies.locators.material import KeepingBench, Material
from broca.studies.locators.tables import compared, flat_figures, told, winners
from broca.studies.study import Findings, Plan, Results

READS = {
    "area_own": lambda one: one["area_own"],
    "area_other": lambda one: one["area_other"],
    "selectivity": lambda one: one["area_other"] - one["area_own"],
}


class Joint:
    """See the module."""

    name = "locators.joint"

    def plan(self, material: Material, bench: KeepingBench) -> Plan:
        return Plan({}, extra={"units": judged_prompts(material, bench)})

    def summarise(self, material: Material, results: Results) -> Findings:
        config, units = material.config, results.extra["units"]
        records = compared(units, config, READS)
        best = {
            "area_own": winners(units, config, READS["area_own"], lowest=True),
            "selectivity": winners(units, config, READS["selectivity"]),
        }
        for record in records:
            record |= {f"{name}_wins": record["locator"] in found for name, found in best.items()}
        first = min(
            (r for r in records if r["locator"] not in ("exact", "random")),
            key=lambda r: r["area_own"],
        )
        n_sizes = len(units[0]["locators"][first["locator"]]["left_own"])
        words = [
            f"Switched off together, the first neurons of {first['title']} leave "
            f"{told(first, 'area_own')} of P of the own answer and {told(first, 'area_other')} of "
            f"another's, over log k up to {config.sizes[n_sizes - 1]} neurons.",
        ]
        return Findings(
            figures=flat_figures(self.name, records, tuple(READS)),
            tables={"locators": records, "curves": _curves(units, config)},
            words=words,
        )


def _curves(units: Sequence[Mapping[str, Any]], config: Any) -> list[dict[str, Any]]:
    records = []
    for name in config.locators:
        for side in ("own", "other"):
            left = np.array([unit["locators"][name][f"left_{side}"] for unit in units])
            for k, values in zip(config.sizes, left.T, strict=False):
                mean = bootstrap_mean(values, seed=config.seed, n_resamples=config.n_resamples)
                records.append(
                    {
                        "locator": name,
                        "title": find_locator(name).title,
                        "prompt": side,
                        "k": int(k),
                        "value": mean.value,
                        "low": mean.low,
                        "high": mean.high,
                    }
                )
    return records


STUDIES = (Joint(),)
