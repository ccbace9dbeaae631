"""Stability: are the same neurons found with other facts of the same relation?

Ours; the paper does not ask. METHODS §2, Controls.

1. Detection subjects are halved, the same way for all relations; neurons are scored on each half.
2. The top k of the two halves are compared: share in common, beside chance (k / N) and beside
   halves of different relations. Rank correlation of the scores of all neurons between halves.
3. The set found on one half is switched off on the evaluation prompts, which neither half holds:
   a set found with half of the facts should do nearly what the whole does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from broca.store import summary_key
from broca.studies.relations.figures import mean, means, percent
from broca.studies.relations.material import HALVES, Material, evaluation_group, left_out
from broca.studies.relations.selection import half_labellings
from broca.studies.study import Bench, Findings, Plan, Results


class Stability:
    """Neurons found on halves of the facts."""

    name = "relations.stability"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Sets of both halves off on the own evaluation prompts."""
        names = [name for name in material.names if _has_both(material, name)]
        detection = {name: material.detection[name] for name in names}
        scored = {}
        if len(names) >= 2:
            labellings = half_labellings(
                material.config, detection, material.responses.prompt_ids, material.half
            )
            scored = bench.score(material.responses, labellings)
        sets = {
            (letter, name): scored[f"{letter}/{name}"].top(material.k, name=f"{name}.half-{letter}")
            for letter in HALVES
            for name in detection
            if scored
        }
        correlation = {
            name: _rank_correlation(*(scored[f"{letter}/{name}"].values for letter in HALVES))
            for name in detection
            if scored
        }
        cells: dict[str, dict[str, Any]] = {}
        extra = {"sets": sets, "correlation": correlation, "cells": cells}
        plan = material.plan(
            material.groups,
            extra=extra,
        )
        for name in correlation:
            group = [evaluation_group(name)]
            cells[name] = {
                "whole": plan.switch_off(material.sets[name], group),
                "halves": [
                    c for letter in HALVES for c in plan.switch_off(sets[letter, name], group)
                ],
            }
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Overlap of halves, own and of different relations; what halves do."""
        records = [_record(material, results, name) for name in results.extra["cells"]]
        figures = _figures(material, records)
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "relations": records},
            words=_words(records, figures),
        )


def _has_both(material: Material, name: str) -> bool:
    return {material.half[prompt.id] for prompt in material.detection[name]} == set(HALVES)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.asarray(stats.spearmanr(a, b))[0])


def _record(material: Material, results: Results, name: str) -> dict[str, Any]:
    sets, cell = results.extra["sets"], results.extra["cells"][name]
    a, b = (sets[letter, name] for letter in HALVES)
    others = [
        sets["a", name].overlap(sets["b", other]).of_smaller
        for other in results.extra["cells"]
        if other != name
    ]
    return {
        "relation": name,
        "facts": len(material.detection[name]),
        "shared": a.overlap(b).of_smaller,
        "shared_other": mean(others),
        "chance": material.k / len(material.index),
        "with_whole": mean(half.overlap(material.sets[name]).of_smaller for half in (a, b)),
        "rank_correlation": results.extra["correlation"][name],
        "drop_whole": results[cell["whole"]].drop,
        "drop_half": results[cell["halves"]].drop,
    }


def _figures(
    material: Material, records: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    keys = ("shared", "shared_other", "with_whole", "rank_correlation", "drop_whole", "drop_half")
    figures: dict[str, float | int | None] = {
        f"stability.{key}": value for key, value in means(records, *keys).items()
    }
    figures["stability.chance"] = material.k / len(material.index)
    for record in records:
        figures[summary_key("stability", record["relation"], "shared")] = record["shared"]
    return figures


def _words(records: Sequence[dict[str, Any]], figures: dict[str, Any]) -> list[str]:
    if not records:
        return ["Too few detection facts to halve them."]
    least = min(records, key=lambda record: record["shared"])
    return [
        f"Sets found on two halves of the facts share {figures['stability.shared']:.0%} of their "
        f"neurons in the mean (chance {figures['stability.chance']:.1%}, halves of different "
        f"relations {figures['stability.shared_other']:.0%}); least stable: {least['relation']} "
        f"({least['shared']:.0%}).",
        f"A set found on half of the facts costs {percent(figures['stability.drop_half'])} of the "
        f"right answers, the set found on all {percent(figures['stability.drop_whole'])}.",
    ]


STUDIES = (Stability(),)
