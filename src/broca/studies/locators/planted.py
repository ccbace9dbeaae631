"""Does a locator find neurons that were planted?

Claim: a neuron whose value vector was given the answer's direction is found first.

1. For a prompt and an answer that is not its own, neurons among the more active half get value
   vectors that speak for the answer (:mod:`broca.studies.locators.truths`).
2. Recall: share of these neurons among as many first ones of the locator's ranking.
3. Means over prompts with intervals; paired with the reference.

Source: METHODS, "Locators and the truth", truth 4; planting by closed form is ours.
"""

from __future__ import annotations

from dataclasses import asdict

from broca.studies.locators.material import KeepingBench, Material
from broca.studies.locators.tables import compared, flat_figures, told, winners
from broca.studies.locators.truths import judge_planted
from broca.studies.study import Findings, Plan, Results


class Planted:
    """See the module."""

    name = "locators.planted"

    def plan(self, material: Material, bench: KeepingBench) -> Plan:
        config = material.config
        settings = asdict(config)
        items = [
            ({"settings": settings, "prompt": [prompt.id, prompt.text]}, prompt)
            for prompt in material.prompts[: config.n_planted]
        ]
        units = bench.keep(
            "planted", lambda model, prompt: judge_planted(model, material, prompt), items
        )
        return Plan({}, extra={"units": units})

    def summarise(self, material: Material, results: Results) -> Findings:
        config, units = material.config, results.extra["units"]
        reads = {"recall": lambda one: one["global"][-1]}
        records = compared(units, config, reads)
        best = winners(units, config, reads["recall"])
        for record in records:
            record["recall_wins"] = record["locator"] in best
        first = max(
            (r for r in records if r["locator"] not in ("exact", "random")),
            key=lambda r: r["recall"],
        )
        words = [
            f"Of {config.planted} planted neurons {first['title']} has {told(first, 'recall')} "
            f"among its first {config.planted} ({len(units)} prompts).",
        ]
        return Findings(flat_figures(self.name, records, ("recall",)), {"locators": records}, words)


STUDIES = (Planted(),)
