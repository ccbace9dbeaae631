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
3. Control of the set difference: the same with the largest set's neurons in `n_orders` random
   orders. A purely additive dose gives .4 to 1.0 as well; only what the own order has beyond
   random ones is said of it.
4. Selectivity at k = (own − other) / (own + other) of the losses, none below 0; the smallest k with
   half of the loss that the largest set costs (METHODS §7).

What differs from the paper: log P, intervals, random sets at every k, random orders; others are
measured on a few prompts each (`n_other`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from broca.neurons import NeuronSet
from broca.store import summary_key
from broca.studies.relations.config import RelationsConfig, number_of_neurons
from broca.studies.relations.figures import (
    NAN,
    finite,
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
        orders: list[Order] = []
        extra = {"ladder": ladder, "rungs": rungs, "steps": steps, "orders": orders}
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
        for seed in range(material.config.n_orders):
            orders.append(_plan_order(plan, material, ladder, seed))
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
        rungs, apart = results.extra["rungs"], results.extra["steps"]
        own = Order({place: rung["own"] for place, rung in rungs.items()}, apart)
        steps = _steps(results, material, ladder, own)
        random = [_steps(results, material, ladder, order) for order in results.extra["orders"]]
        curve = [_point(material, results, records, k) for k in ladder]
        table = [_row(steps, low, high) for low, high in pairwise(ladder)]
        figures = _figures(material, records, curve, steps, table)
        figures |= _beyond_random(material, steps, random)
        return Findings(
            figures=figures,
            tables={
                "left_out": left_out(material),
                "rungs": records,
                "curve": curve,
                "differences": table,
                "steps": steps,
                "random_steps": [{"order": i, **s} for i, o in enumerate(random) for s in o],
                "sizes": [_size(records, name) for name in material.names],
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


@dataclass(frozen=True)
class Order:
    """A ranking of each relation's neurons, cut at the rungs.

    Attributes:
        tops: (relation, k) -> the first k off.
        steps: (relation, k1, k2) -> ranks k1 to k2 off.
    """

    tops: Mapping[tuple[str, int], Condition]
    steps: Mapping[tuple[str, int, int], Condition]


def _plan_order(plan: Plan, material: Material, ladder: Sequence[int], seed: int) -> Order:
    """The largest set's neurons of every relation in a random order."""
    tops: dict[tuple[str, int], Condition] = {}
    steps: dict[tuple[str, int, int], Condition] = {}
    for number, name in enumerate(material.names):
        rng = np.random.default_rng([material.config.seed, seed, number])
        ranked = material.scores[name].top(ladder[-1], name=name)
        ranked = ranked.take(rng.permutation(len(ranked)), name=f"{name}.order-{seed}")
        group = [evaluation_group(name)]
        labels: dict[str, Any] = {"control": "order", "seed": seed}
        for k in ladder:
            top = ranked.take(slice(k), name=f"{ranked.name}.top-{k}")
            tops[name, k] = plan.switch_off(top, group, **labels)[0]
        for low, high in pairwise(ladder):
            part = between(ranked, low, high)
            steps[name, low, high] = plan.switch_off(part, group, **labels)[0]
    return Order(tops, steps)


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
    other = mean_drop(results, conditions["others"])
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
        "other_drop": other,
        "selectivity": selectivity(own.drop, other),
        "uniform_drop": uniform.drop,
        "log_p_drop": log_p_drop(own),
        "other_log_p_drop": log_p_drop(others),
    }


def selectivity(own: float, other: float) -> float:
    """(own − other) / (own + other) of two losses, none below 0; NaN where nothing is lost."""
    own, other = max(own, 0.0), max(other, 0.0)
    return (own - other) / (own + other) if own + other > 0 else NAN


def _size(records: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The smallest k with half of the loss of the largest set, and what others lose there."""
    here = [record for record in records if record["relation"] == name]
    largest = here[-1]["own_drop"]
    half = next((r for r in here if largest > 0 and r["own_drop"] >= largest / 2), None)
    keys = ("k", "share", "own_drop", "other_drop", "selectivity")
    found = {key: half[key] if half else None for key in keys}
    return {"relation": name, "largest_loss": largest, **found}


def _steps(
    results: Results, material: Material, ladder: Sequence[int], order: Order
) -> list[dict[str, Any]]:
    return [
        _step(results, order, name, low, high)
        for name in material.names
        for low, high in pairwise(ladder)
    ]


def _step(results: Results, order: Order, name: str, low: int, high: int) -> dict[str, Any]:
    asked = order.tops[name, low], order.tops[name, high], order.steps[name, low, high]
    right_low, right_high, right_between = (results[one].correct.astype(bool) for one in asked)
    total, affected = set_difference(right_low, right_high, right_between)
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
    names = ("own_drop", "other_drop", "uniform_drop", "selectivity")
    for key in (*names, "log_p_drop", "other_log_p_drop"):
        point[key] = mean(record[key] for record in here)
    return point


def _of_relation(steps: Sequence[dict[str, Any]], name: str) -> float:
    """Cumulativity of a relation over all of its steps."""
    here = [step for step in steps if step["relation"] == name]
    return cumulativity(sum(s["total"] for s in here), sum(s["affected"] for s in here))


def _beyond_random(
    material: Material,
    steps: Sequence[dict[str, Any]],
    random: Sequence[Sequence[dict[str, Any]]],
) -> dict[str, Any]:
    """Macro cumulativity of random orders, and of the own order beyond them, over relations."""
    drawn = {n: mean(_of_relation(order, n) for order in random) for n in material.names}
    gaps = finite(_of_relation(steps, name) - drawn[name] for name in material.names)
    return {
        "cumulativity.random_order": mean(drawn.values()),
        **interval("cumulativity.beyond_random", mean_estimate(gaps, material.config)),
    }


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
    per_relation = [_of_relation(steps, name) for name in material.names]
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
            f"over answers, {figures['cumulativity.macro']:.2f} over relations; with the same "
            f"neurons in random order {figures['cumulativity.random_order']:.2f}."
        )
    else:
        words.append("No answer is lost between two rungs: nothing can be said of cumulativity.")
    return words


STUDIES = (Cumulativity(),)
