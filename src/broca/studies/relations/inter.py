"""Inter-relation: what does switching off one relation's neurons do to the others?

Claim: a relation's neurons matter for it more than for others; some pairs of relations hurt or
help each other. arXiv 2502.17355, section 4.2, figure 3 and table 2.

1. Every relation's evaluation prompts are asked with every relation's neurons off.
2. acc_drop(ri, rj) = (acc_ri − acc_ri with rj's neurons off) / acc_ri; negative: interference,
   ri profits. Own drop = acc_drop(rj, rj), other drop = mean over ri ≠ rj.
3. What is said instead of an answer that was right before: the prompt repeated, a function word,
   nothing, a right answer of another relation, another object of the same relation, the right one
   in another language.

What differs from the paper: drops of log P beside those of accuracy; intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.estimates import Estimate, bootstrap, bootstrap_mean
from broca.store import summary_key
from broca.studies.relations.material import Material, evaluation_group
from broca.studies.relations.said import KINDS
from broca.studies.study import Bench, Findings, Outcomes, Plan, Results

FLOOR = 0.01  # of other drops in the ratio own / other, so that a drop near 0 makes no giant
SAMPLES = 4  # answers shown per relation


class InterRelation:
    """Every relation's neurons off on every relation's evaluation prompts."""

    name = "relations.inter"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """All sets on all evaluation prompts."""
        plan = material.plan(material.groups)
        groups = [evaluation_group(name) for name in material.names]
        plan.ask(groups)
        for name in material.names:
            plan.switch_off(material.sets[name], groups)
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """The matrix, own and other drops, overlaps, and what is said instead."""
        cells = [
            _cell(material, results, asked, off)
            for asked in material.names
            for off in material.names
        ]
        sets = [_set_record(material, cells, name) for name in material.names]
        said = [record for name in material.names for record in _said(results, name)]
        return Findings(
            figures={**_figures(sets, cells), **_alone(material, cells)},
            tables={
                "matrix": cells,
                "sets": sets,
                "said": said,
                "answers": [r for name in material.names for r in _answers(results, name)],
                "overlap": overlaps(material),
                "places": places(material),
            },
            words=[*_words(sets, cells, said), *_coverage_words(_alone(material, cells))],
        )


def _cell(material: Material, results: Results, asked: str, off: str) -> dict[str, Any]:
    outcomes = results.where([evaluation_group(asked)], set=off)
    log_p = bootstrap_mean(
        outcomes.log_p_before - outcomes.log_p,
        seed=material.config.seed,
        n_resamples=material.config.n_resamples,
    )
    return {
        "asked": asked,
        "off": off,
        "n": len(outcomes),
        "before": outcomes.accuracy_before,
        "after": outcomes.accuracy,
        "drop": outcomes.drop,
        "lost": int((outcomes.correct_before & ~outcomes.correct).sum()),
        "gained": int((~outcomes.correct_before & outcomes.correct).sum()),
        "log_p_drop": log_p.value,
        "log_p_drop_low": log_p.low,
        "log_p_drop_high": log_p.high,
    }


def _set_record(material: Material, cells: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """Own and other drop of one set, and how many neurons and units it has."""
    own = next(c["drop"] for c in cells if c["off"] == name and c["asked"] == name)
    others = [c["drop"] for c in cells if c["off"] == name and c["asked"] != name]
    finite = [drop for drop in others if np.isfinite(drop)]
    neurons = material.sets[name]
    return {
        "set": name,
        "neurons": len(neurons),
        "units": neurons.n_units,
        "own_drop": own,
        "other_drop": float(np.mean(finite)) if finite else float("nan"),
        "other_drop_worst": float(np.max(finite)) if finite else float("nan"),
        "other_drop_best": float(np.min(finite)) if finite else float("nan"),
        "lowest_ap": float(neurons.scores.min()),
        "highest_ap": float(neurons.scores.max()),
    }


def _said(results: Results, name: str) -> list[dict[str, Any]]:
    """Kinds of answers with the own neurons off, where the untouched model was right."""
    outcomes = results.where([evaluation_group(name)], set=name)
    lost = outcomes.correct_before & ~outcomes.correct
    counts = Counter(outcomes.said[lost])
    return [
        {"relation": name, "said": kind, "n": counts[kind], "of": int(lost.sum())}
        for kind in KINDS[1:]
    ]


def _answers(results: Results, name: str) -> list[dict[str, Any]]:
    """A few answers before and after, changed ones first."""
    outcomes: Outcomes = results.where([evaluation_group(name)], set=name)
    order = np.argsort(~(outcomes.correct_before & ~outcomes.correct), kind="stable")[:SAMPLES]
    return [
        {
            "relation": name,
            "prompt": outcomes.prompt[i],
            "before": outcomes.text_before[i],
            "after": outcomes.text[i],
            "right_before": bool(outcomes.correct_before[i]),
            "right_after": bool(outcomes.correct[i]),
            "said": outcomes.said[i],
            "log_p_before": float(outcomes.log_p_before[i]),
            "log_p_after": float(outcomes.log_p[i]),
        }
        for i in order
    ]


def overlaps(material: Material) -> list[dict[str, Any]]:
    """Shared neurons of every pair of sets, beside what chance would share."""
    found = []
    for a in material.names:
        for b in material.names:
            shared = material.sets[a].overlap(material.sets[b])
            chance = material.k**2 / len(material.index)
            found.append(
                {
                    "a": a,
                    "b": b,
                    "count": shared.count,
                    "of_smaller": shared.of_smaller,
                    "jaccard": shared.jaccard,
                    "expected": chance,
                }
            )
    return found


def places(material: Material) -> list[dict[str, Any]]:
    """Neurons per set, site and layer."""
    return [
        {"set": name, "site": site, "layer": layer, "n": n}
        for name in material.names
        for (site, layer), n in material.sets[name].counts().items()
    ]


def _figures(
    sets: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    other = [s["other_drop"] for s in sets if np.isfinite(s["other_drop"])]
    own = [s["own_drop"] for s in sets if np.isfinite(s["own_drop"])]
    floored = float(np.median([max(drop, FLOOR) for drop in other])) if other else float("nan")
    own_median = float(np.median(own)) if own else float("nan")
    figures: dict[str, float | int | None] = {
        "effect.own_drop_median": own_median,
        "effect.other_drop_median": float(np.median(other)) if other else float("nan"),
        "effect.other_drop_floored_median": floored,
        "effect.own_over_other": own_median / floored,
        "effect.negative_cells": sum(c["drop"] < 0 for c in cells if c["asked"] != c["off"]),
        "effect.cells": sum(c["asked"] != c["off"] for c in cells),
    }
    for record in sets:
        figures[summary_key("effect", record["set"], "other_drop")] = record["other_drop"]
    return figures


def _alone(material: Material, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How specific the sets are: losses in points of accuracy, selectivity, coverage (METHODS §7).

    Selectivity is (own − other) / (own + other) over the sets together. Coverage is the share of
    all neurons that belong to any set; exclusive, the share of a set that belongs to no other.
    """
    loss = {(c["off"], c["asked"]): c["before"] - c["after"] for c in cells}
    own = np.array([loss[n, n] for n in material.names])
    other = np.array(
        [np.mean([loss[off, r] for r in material.names if r != off]) for off in material.names]
    )
    members = np.zeros(len(material.index), int)
    places = {name: material.index.flatten(material.sets[name]) for name in material.names}
    for flat in places.values():
        members[flat] += 1
    exclusive = [float((members[flat] == 1).mean()) for flat in places.values()]
    seed = material.config.seed
    selectivity = bootstrap(_selectivity, own, other, seed=seed)
    return {
        **_spread("effect.own_loss", bootstrap_mean(own, seed=seed)),
        **_spread("effect.other_loss", bootstrap_mean(other, seed=seed)),
        **_spread("effect.selectivity", selectivity),
        "effect.coverage": float((members > 0).mean()),
        "effect.exclusive": float(np.mean(exclusive)),
    }


def _selectivity(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (own - other) / (own + other)


def _spread(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _coverage_words(figures: Mapping[str, Any]) -> list[str]:
    covered = figures["effect.coverage"]
    most = " Nearly every neuron belongs to a relation." if covered > 0.9 else ""
    return [
        f"{covered:.0%} of all neurons belong to some set, and "
        f"{figures['effect.exclusive']:.0%} of a set belongs to no other.{most} Selectivity "
        f"(own − other) / (own + other) is {figures['effect.selectivity']:.2f}."
    ]


def _words(
    sets: Sequence[dict[str, Any]],
    cells: Sequence[dict[str, Any]],
    said: Sequence[dict[str, Any]],
) -> list[str]:
    if not any(np.isfinite(s["own_drop"]) for s in sets):
        return ["Nothing was answered rightly before, so no answer could be lost."]
    more = [s for s in sets if s["own_drop"] > s["other_drop_worst"]]
    words = [
        f"In the point estimates {len(more)} of {len(sets)} sets cost their own relation more than "
        "any other."
    ]
    pairs = [c for c in cells if c["asked"] != c["off"]]
    helped = sorted((c for c in pairs if c["drop"] < 0), key=lambda c: c["drop"])
    if helped:
        c = helped[0]
        words.append(
            f"In {len(helped)} of {len(pairs)} pairs the other relation gains; most: {c['asked']} "
            f"with the neurons of {c['off']} off, {c['before']:.0%} → {c['after']:.0%}."
        )
    hurt = sorted((c for c in pairs if c["drop"] > 0), key=lambda c: -c["drop"])
    if hurt:
        c = hurt[0]
        words.append(
            f"The pair that hurts most: {c['asked']} with the neurons of {c['off']} off, "
            f"{c['before']:.0%} → {c['after']:.0%}."
        )
    counts = Counter(dict.fromkeys(KINDS[1:], 0))
    for record in said:
        counts[record["said"]] += record["n"]
    total = sum(counts.values())
    if total:
        listed = ", ".join(f"{kind} {n / total:.0%}" for kind, n in counts.most_common() if n)
        words.append(f"Said instead of the {total} lost answers: {listed}.")
    return words


STUDIES = (InterRelation(),)
