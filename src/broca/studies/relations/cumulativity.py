"""Cumulativity: how many neurons does it take, and do they act together?

Claim: a relation's neurons act cumulatively: the more of them are off, the more of its facts are
lost, and facts lost with the top k2 off are often not lost when only ranks k1 to k2 are off.
arXiv 2502.17355, table 3 (set-difference test); METHODS §2, study 3.

1. Every relation's top k neurons are switched off for a ladder of k: on its own evaluation
   prompts and on some of every other relation; uniformly random sets of the same k beside them.
2. Set difference: for consecutive k1 < k2, `total` = own prompts right with the top k1 off and
   wrong with the top k2 off. Only ranks k1 to k2 are switched off; `affected` = those of `total`
   that are now wrong. cumulativity = 1 − affected / total: 1 where a fact needs the neurons below
   k1 off as well. Macro: mean over relations; micro: over prompts.

What differs from the paper: log P, intervals, random sets at every k; others are measured on a
few prompts each (`n_other`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from broca.neurons import NeuronSet
from broca.store import summary_key
from broca.studies.relations.config import RelationsConfig, number_of_neurons
from broca.studies.relations.figures import (
    NAN,
    groups_with_spots,
    interval,
    log_p_drop,
    mean,
    mean_drop,
    mean_estimate,
    other_groups,
    percent,
)
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.study import Bench, Condition, Findings, Outcomes, Plan, Results

PAPER_LADDER = (10, 50, 200, 500, 1000, 3000, 10_000, 20_000, 50_000)
PAPER_SIZE = 400_000  # neurons from which on the paper's own numbers are taken
SMALLEST = 4  # first rung of the geometric ladder; the last is a quarter of all neurons


class Cumulativity:
    """A ladder of set sizes, and the set-difference test on its rungs."""

    name = "relations.cumulativity"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Top k of every relation, what lies between two rungs, and random sets."""
        ladder = ladder_of(material.config, len(material.index))
        rungs: dict[tuple[str, int], dict[str, Any]] = {}
        steps: dict[tuple[str, int, int], Condition] = {}
        extra = {"ladder": ladder, "rungs": rungs, "steps": steps}
        plan = material.plan(
            groups_with_spots(material),
            extra=extra,
        )
        own_groups = [evaluation_group(name) for name in material.names]
        plan.ask(own_groups)
        for name in material.names:
            ranked = material.scores[name].top(ladder[-1], name=name)
            own, others = [evaluation_group(name)], other_groups(material, name)
            for k in ladder:
                top = ranked.take(slice(k), name=f"{name}.top-{k}")
                rungs[name, k] = {
                    "own": plan.switch_off(top, own)[0],
                    "others": plan.switch_off(top, others),
                }
            for low, high in pairwise(ladder):
                steps[name, low, high] = plan.switch_off(between(ranked, low, high), own)[0]
        for k in ladder:
            drawn = material.uniform(0, k)
            for condition in plan.switch_off(drawn, own_groups, control="uniform", seed=0):
                rungs[condition.prompts.partition("/")[2], k]["uniform"] = condition
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Accuracy over k, and the table of the set-difference test."""
        ladder = results.extra["ladder"]
        records = [
            _rung(results, name, k, results.extra["rungs"][name, k], len(material.index))
            for name in material.names
            for k in ladder
        ]
        steps = [
            _step(results, name, low, high)
            for name in material.names
            for low, high in pairwise(ladder)
        ]
        curve = [_point(material, results, records, k) for k in ladder]
        table = [_row(steps, low, high) for low, high in pairwise(ladder)]
        figures = _figures(material, records, curve, steps, table)
        return Findings(
            figures=figures,
            tables={
                "left_out": left_out(material),
                "rungs": records,
                "curve": curve,
                "differences": table,
                "steps": steps,
            },
            words=_words(curve, table, figures),
        )


def ladder_of(config: RelationsConfig, n_neurons: int) -> tuple[int, ...]:
    """Numbers of neurons, rising.

    Raises:
        RecipeError: If a number of the settings is larger than the number of neurons.
    """
    if config.ladder != "auto":
        steps: Iterable[int] = (number_of_neurons(step, n_neurons) for step in config.ladder)
    elif n_neurons >= PAPER_SIZE:
        steps = PAPER_LADDER
    else:
        last = max(SMALLEST + 1, n_neurons // 4)
        steps = np.geomspace(SMALLEST, last, config.ladder_rungs).round().astype(int).tolist()
    return tuple(sorted(set(steps)))


def between(ranked: NeuronSet, low: int, high: int) -> NeuronSet:
    """The neurons of ranks low (left out) to high, that is: in the top high, not in the top low."""
    return ranked.take(slice(low, high), name=f"{ranked.name}.ranks-{low}-{high}")


def set_difference(
    right_low: np.ndarray, right_high: np.ndarray, right_between: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which prompts are lost between two rungs, and which of them with that step alone.

    Args:
        right_low: Right with the top k1 off, bool [prompt].
        right_high: Right with the top k2 off, bool [prompt].
        right_between: Right with ranks k1 to k2 off, bool [prompt].

    Returns:
        `total` and `affected`, bool [prompt] each.
    """
    total = right_low & ~right_high
    return total, total & ~right_between


def cumulativity(total: int, affected: int) -> float:
    """1 − affected / total, NaN where no prompt is lost."""
    return 1 - affected / total if total else NAN


def _rung(
    results: Results, name: str, k: int, conditions: dict[str, Any], n_neurons: int
) -> dict[str, Any]:
    own: Outcomes = results[conditions["own"]]
    others: Outcomes = results[conditions["others"]]
    uniform: Outcomes = results[conditions["uniform"]]
    return {
        "relation": name,
        "k": k,
        "share": k / n_neurons,
        "n": len(own),
        "before": own.accuracy_before,
        "own": own.accuracy,
        "other_before": others.accuracy_before,
        "other": others.accuracy,
        "uniform": uniform.accuracy,
        "own_drop": own.drop,
        "other_drop": mean_drop(results, conditions["others"]),
        "uniform_drop": uniform.drop,
        "log_p_drop": log_p_drop(own),
        "other_log_p_drop": log_p_drop(others),
    }


def _step(results: Results, name: str, low: int, high: int) -> dict[str, Any]:
    rungs = results.extra["rungs"]
    total, affected = set_difference(
        results[rungs[name, low]["own"]].correct.astype(bool),
        results[rungs[name, high]["own"]].correct.astype(bool),
        results[results.extra["steps"][name, low, high]].correct.astype(bool),
    )
    counts = int(total.sum()), int(affected.sum())
    return {
        "relation": name,
        "k1": low,
        "k2": high,
        "total": counts[0],
        "affected": counts[1],
        "cumulativity": cumulativity(*counts),
    }


def _row(steps: Sequence[dict[str, Any]], low: int, high: int) -> dict[str, Any]:
    here = [step for step in steps if (step["k1"], step["k2"]) == (low, high)]
    total, affected = sum(s["total"] for s in here), sum(s["affected"] for s in here)
    return {
        "k1": low,
        "k2": high,
        "total": total,
        "affected": affected,
        "micro": cumulativity(total, affected),
        "macro": mean(step["cumulativity"] for step in here),
        "relations": sum(step["total"] > 0 for step in here),
    }


def _point(
    material: Material, results: Results, records: Sequence[dict[str, Any]], k: int
) -> dict[str, Any]:
    """Mean accuracies at one k, with intervals over facts."""
    rungs = [results.extra["rungs"][name, k] for name in material.names]
    parts = {
        "own": results[[rung["own"] for rung in rungs]],
        "other": results[[condition for rung in rungs for condition in rung["others"]]],
        "uniform": results[[rung["uniform"] for rung in rungs]],
    }
    here = [record for record in records if record["k"] == k]
    point: dict[str, Any] = {
        "k": k,
        "share": here[0]["share"],
        "before": parts["own"].accuracy_before,
    }
    for part, outcomes in parts.items():
        estimate = mean_estimate(
            outcomes.correct.astype(float), material.config, list(outcomes.fact)
        )
        point |= interval(part, estimate)
    for key in ("own_drop", "other_drop", "uniform_drop", "log_p_drop", "other_log_p_drop"):
        point[key] = mean(record[key] for record in here)
    return point


def _figures(
    material: Material,
    records: Sequence[dict[str, Any]],
    curve: Sequence[dict[str, Any]],
    steps: Sequence[dict[str, Any]],
    table: Sequence[dict[str, Any]],
) -> dict[str, float | int | None]:
    half = next((point for point in curve if point["own_drop"] >= 0.5), None)
    falls = [b["own"] <= a["own"] for a, b in pairwise(curve)]
    total, affected = sum(r["total"] for r in table), sum(r["affected"] for r in table)
    per_relation = [
        cumulativity(
            sum(s["total"] for s in steps if s["relation"] == name),
            sum(s["affected"] for s in steps if s["relation"] == name),
        )
        for name in material.names
    ]
    figures: dict[str, float | int | None] = {
        "cumulativity.rungs": len(curve),
        "cumulativity.lost": total,
        "cumulativity.affected": affected,
        "cumulativity.micro": cumulativity(total, affected),
        "cumulativity.macro": mean(per_relation),
        "cumulativity.steps_down": float(np.mean(falls)),
        "cumulativity.k_half": half["k"] if half else NAN,
        "cumulativity.k_half_share": half["share"] if half else NAN,
        "cumulativity.other_drop_at_half": half["other_drop"] if half else NAN,
        "cumulativity.uniform_drop_at_half": half["uniform_drop"] if half else NAN,
        "cumulativity.own_drop_largest": curve[-1]["own_drop"],
        "cumulativity.other_drop_largest": curve[-1]["other_drop"],
    }
    for name in material.names:
        own = [r for r in records if r["relation"] == name]
        first = next((r["k"] for r in own if r["own_drop"] >= 0.5), NAN)
        figures[summary_key("cumulativity", name, "k_half")] = first
    return figures


def _words(
    curve: Sequence[dict[str, Any]],
    table: Sequence[dict[str, Any]],
    figures: dict[str, float | int | None],
) -> list[str]:
    half = next((point for point in curve if point["own_drop"] >= 0.5), None)
    if half is None:
        last = curve[-1]
        words = [
            f"Even {last['k']:,} neurons ({last['share']:.1%} of all) cost a relation less than "
            f"half of its right answers in the mean ({percent(last['own_drop'])}), others "
            f"{percent(last['other_drop'])}."
        ]
    else:
        words = [
            f"With {half['k']:,} neurons ({half['share']:.1%} of all) off, a relation has lost "
            f"half of its right answers in the mean ({percent(half['own_drop'])}); the others "
            f"lose {percent(half['other_drop'])}, with as many random neurons off "
            f"{percent(half['uniform_drop'])} are lost."
        ]
    total, affected = figures["cumulativity.lost"], figures["cumulativity.affected"]
    if total:
        words.append(
            f"Of {total} answers lost between two rungs, {affected} are lost when only the "
            f"neurons between the rungs are off: cumulativity {figures['cumulativity.micro']:.2f} "
            f"over answers, {figures['cumulativity.macro']:.2f} over relations."
        )
    else:
        words.append("No answer is lost between two rungs: nothing can be said of cumulativity.")
    return words


STUDIES = (Cumulativity(),)
