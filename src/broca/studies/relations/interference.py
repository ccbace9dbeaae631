"""Interference: does a relation profit when another relation's neurons are off?

Claim: relation neurons interfere: switching off one relation's neurons raises the accuracy of
some others. arXiv 2502.17355; METHODS §2, study 2.

1. For every pair (asked, off): log P and right answers of each evaluation fact before and after.
2. Paired one-sided tests per pair, by sign flips over facts: log P raised, accuracy raised; Holm
   over all pairs. A rise of log P counts when it is significant and 0.05 nats in the mean: a
   deterministic model moves by hairs regularly.
3. Control: the same with matched random sets in place of the other relation's.
4. The answers that became right.

What differs from the paper: tests, log P (accuracy cannot rise where it is at its ceiling),
random sets; the paper counts negative cells of the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broca.studies.relations.figures import adjust, flip_p, interval, mean_estimate
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.study import Bench, Findings, Outcomes, Plan, Results

MATCHED = "matched"
CLEAR = 0.05  # nats of mean gain below which a gain is not counted, however regular it is


class Interference:
    """Pairs of relations of which one profits."""

    name = "relations.interference"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Every set, and matched random ones, off on all other relations."""
        cells: dict[tuple[str, str, int], Any] = {}  # number 0: the set itself, then controls
        plan = material.plan(
            material.groups,
            extra={"cells": cells},
        )
        for off in material.names:
            asked = [name for name in material.names if name != off]
            groups = [evaluation_group(name) for name in asked]
            own = plan.switch_off(material.sets[off], groups)
            cells |= {(name, off, 0): c for name, c in zip(asked, own, strict=True)}
            for seed in range(material.config.n_interference_controls):
                drawn = material.matched(off, seed)
                random = plan.switch_off(drawn, groups, control=MATCHED, seed=seed)
                cells |= {(name, off, seed + 1): c for name, c in zip(asked, random, strict=True)}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Tests of all pairs, and the answers that became right."""
        cells = results.extra["cells"]
        numbers = range(1 + material.config.n_interference_controls)
        tested = []
        for number in numbers:
            records = [
                _pair(material, results[condition], asked, off)
                for (asked, off, which), condition in cells.items()
                if which == number
            ]
            adjust(records, "p_log_p")
            adjust(records, "p_accuracy")
            for record in records:
                significant = record["p_log_p_holm"] < material.config.alpha
                record["raised"] = bool(significant and record["log_p_gain"] >= CLEAR)
            tested.append(records)
        pairs, controls = tested[0], tested[1:]
        became = [
            answer
            for (asked, off, which), condition in cells.items()
            if which == 0
            for answer in became_right(results[condition], asked, off)
        ]
        return Findings(
            figures=_figures(pairs, controls, became, material.config.alpha),
            tables={
                "left_out": left_out(material),
                "pairs": pairs,
                "matched": [r for c in controls for r in c],
                "became_right": became,
            },
            words=_words(pairs, controls, became, material.config.alpha),
        )


def _pair(material: Material, outcomes: Outcomes, asked: str, off: str) -> dict[str, Any]:
    raised = outcomes.log_p - outcomes.log_p_before
    righter = outcomes.correct.astype(float) - outcomes.correct_before.astype(float)
    return {
        "asked": asked,
        "off": off,
        "n": len(outcomes),
        "before": outcomes.accuracy_before,
        "after": outcomes.accuracy,
        "gained": int((righter > 0).sum()),
        "lost": int((righter < 0).sum()),
        **interval("log_p_gain", mean_estimate(raised, material.config)),
        "p_log_p": flip_p(raised, material.config),
        "p_accuracy": flip_p(righter, material.config),
    }


def became_right(outcomes: Outcomes, asked: str, off: str) -> list[dict[str, Any]]:
    """Answers that were wrong before and are right with the other relation's neurons off."""
    rows = np.flatnonzero(~outcomes.correct_before.astype(bool) & outcomes.correct.astype(bool))
    return [
        {
            "asked": asked,
            "off": off,
            "prompt": outcomes.prompt[i],
            "before": outcomes.text_before[i],
            "after": outcomes.text[i],
            "log_p_before": float(outcomes.log_p_before[i]),
            "log_p_after": float(outcomes.log_p[i]),
        }
        for i in rows
    ]


def _figures(
    pairs: Sequence[dict[str, Any]],
    controls: Sequence[Sequence[dict[str, Any]]],
    became: Sequence[dict[str, Any]],
    alpha: float,
) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {
        "interference.pairs": len(pairs),
        "interference.pairs_gaining": sum(p["after"] > p["before"] for p in pairs),
        "interference.became_right": len(became),
        "interference.prompts_wrong_before": sum(round(p["n"] * (1 - p["before"])) for p in pairs),
        "interference.log_p_gain_largest": max(p["log_p_gain"] for p in pairs),
    }
    counts = {
        "log_p": [sum(r["raised"] for r in records) for records in (pairs, *controls)],
        "accuracy": [
            sum(r["p_accuracy_holm"] < alpha for r in records) for records in (pairs, *controls)
        ],
    }
    for kind, raised in counts.items():
        figures[f"interference.raised_{kind}"] = raised[0]
        figures[f"interference.raised_{kind}_matched"] = float(np.mean(raised[1:]))
    figures["interference.became_right_matched"] = float(
        np.mean([sum(r["gained"] for r in records) for records in controls])
    )
    return figures


def _words(
    pairs: Sequence[dict[str, Any]],
    controls: Sequence[Sequence[dict[str, Any]]],
    became: Sequence[dict[str, Any]],
    alpha: float,
) -> list[str]:
    figures = _figures(pairs, controls, became, alpha)
    words = [
        f"Log P rises in {figures['interference.raised_log_p']} of {len(pairs)} pairs (paired sign "
        f"flips, Holm over all pairs, p < {alpha:g}), with matched random sets in "
        f"{figures['interference.raised_log_p_matched']:g}; accuracy rises in "
        f"{figures['interference.raised_accuracy']} (random "
        f"{figures['interference.raised_accuracy_matched']:g})."
    ]
    raised = sorted((p for p in pairs if p["raised"]), key=lambda pair: -pair["log_p_gain"])
    if raised:
        named = "; ".join(
            f"{p['asked']} with {p['off']} off {p['log_p_gain']:+.2f}, {p['before']:.0%} → "
            f"{p['after']:.0%}"
            for p in raised[:3]
        )
        words.append(f"The largest gains of log P: {named}.")
    words.append(
        f"{len(became)} answers became right that were wrong before, with matched random sets "
        f"{figures['interference.became_right_matched']:g}."
    )
    if np.mean([p["before"] for p in pairs]) > 0.95:
        words.append("Accuracy is near its ceiling before: there is little room to gain.")
    return words


STUDIES = (Interference(),)
