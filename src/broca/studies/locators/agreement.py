"""Do a locator's numbers agree with what each neuron alone does?

Claim: gradients, integrals and correlations stand for the effect of a neuron; none of them is it.

1. For every prompt the exact effect of every hidden neuron at the last position is measured.
2. Each locator's numbers are held against the losses: Spearman and Pearson over all neurons and
   within each layer, and recall of the largest losses.
3. Means over prompts with intervals; paired with the reference over the same prompts.

Source: METHODS, "Locators and the truth", truth 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from broca.locators import find_locator
from broca.studies.locators.judging import judge
from broca.studies.locators.material import KeepingBench, Material
from broca.studies.locators.tables import compared, flat_figures, told, winners
from broca.studies.study import Findings, Plan, Results

FIGURES = ("spearman", "pearson", "recall")


def judged_prompts(material: Material, bench: KeepingBench) -> list[dict[str, Any]]:
    """What was kept of each prompt; computed once for all studies that read it."""
    settings = asdict(material.config)
    items = [
        ({"settings": settings, "prompt": [prompt.id, prompt.text, number]}, number)
        for number, prompt in enumerate(material.prompts)
    ]
    return bench.keep("located", lambda model, n: judge(model, material, n), items)


class Agreement:
    """See the module."""

    name = "locators.agreement"

    def plan(self, material: Material, bench: KeepingBench) -> Plan:
        return Plan({}, extra={"units": judged_prompts(material, bench)})

    def summarise(self, material: Material, results: Results) -> Findings:
        config, units = material.config, results.extra["units"]
        reads = {name: (lambda one, name=name: one[name]) for name in FIGURES}
        records = compared(units, config, reads)
        best = {name: winners(units, config, reads[name]) for name in FIGURES}
        for record in records:
            record |= {f"{name}_wins": record["locator"] in best[name] for name in FIGURES}
        return Findings(
            figures=flat_figures(self.name, records, FIGURES),
            tables={
                "locators": records,
                "layers": _by_layer(units, config.locators),
                "scatter": units[0]["scatter"],
                "about": [
                    {
                        "prompt": material.prompts[0].text,
                        "answer": material.prompts[0].answers[0],
                        "n_prompts": len(units),
                        "n_known": material.n_known,
                        "top": config.top,
                    }
                ],
            },
            words=_words(records, config.top, len(units)),
        )


def _by_layer(units: Sequence[Mapping[str, Any]], locators: Sequence[str]) -> list[dict[str, Any]]:
    records = []
    for name in locators:
        layers = np.mean([u["locators"][name]["spearman_by_layer"] for u in units], axis=0)
        records += [
            {
                "locator": name,
                "title": find_locator(name).title,
                "layer": layer,
                "spearman": float(v),
            }
            for layer, v in enumerate(layers)
        ]
    return records


def _words(records: Sequence[Mapping[str, Any]], top: int, n: int) -> list[str]:
    ranked = sorted(
        (r for r in records if r["locator"] not in ("exact", "random")), key=lambda r: -r["recall"]
    )
    first, last = ranked[0], ranked[-1]
    return [
        f"Of the {top} neurons whose loss costs an answer most, {first['title']} finds "
        f"{told(first, 'recall')} of them, {last['title']} {told(last, 'recall')} (means over "
        f"{n} prompts with 95 % intervals).",
    ]


STUDIES = (Agreement(),)
