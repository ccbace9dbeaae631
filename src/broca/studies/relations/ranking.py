"""The own set's rank among random sets: is the loss more than such sets cost (METHODS §7)?

1. Every relation has its own set and `n_matched` random sets, matched by site and layer, outside
   it and as units; and as many matched by activity, where they are asked for.
2. All of them are switched off on the same evaluation facts, `n_null` per relation.
3. Statistic of a set: its mean loss of right answers (or of log P) on these facts. The p-value is
   the own set's rank among the random ones, corrected over relations by the maximum.

Sets are a sample: sign flips over facts hold a few of them fixed, and say no more than that the
own set costs more than *these* sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from broca.errors import NeuronError
from broca.estimates import fewest_sets, max_statistic_test
from broca.prompts import Prompt
from broca.studies.relations.config import FEWEST_RIGHT
from broca.studies.relations.material import Material
from broca.studies.study import Condition, Outcomes, Plan, Replacement, Results

MATCHED, ACTIVE = "matched", "active"


def null_group(relation: str) -> str:
    """Name of the group of evaluation prompts under all random sets."""
    return f"evaluation-null/{relation}"


def null_groups(material: Material) -> dict[str, Sequence[Prompt]]:
    """The first `n_null` evaluation prompts of every relation."""
    n = material.config.n_null
    return {null_group(r): tuple(material.evaluation[r][:n]) for r in material.names}


@dataclass
class Ranked:
    """The conditions of one relation: its own set, and random ones by kind.

    Attributes:
        own: The own set off.
        drawn: "matched", "active" -> random sets off, by seed.
        lacking: Why there are no sets of a kind.
    """

    own: Condition
    drawn: dict[str, list[Condition]] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)


def plan_ranks(
    plan: Plan, material: Material, replacement: Replacement | None
) -> dict[str, Ranked]:
    """Ask own and random sets on the same facts, relation by relation.

    Args:
        plan: Takes the conditions; has the groups of `null_groups`.
        material: The relations.
        replacement: What is put in the neurons' place; zero if None.
    """
    config = material.config
    ranked: dict[str, Ranked] = {}
    for name in material.names:
        group = [null_group(name)]
        (own,) = plan.replace(material.sets[name], group, replacement)
        ranked[name] = Ranked(own)
        draws = {MATCHED: (material.matched, config.n_matched)}
        draws |= {ACTIVE: (material.as_active, config.n_active)}
        for control, (draw, n) in draws.items():
            try:
                sets = [draw(name, seed) for seed in range(n)]
            except NeuronError as error:
                ranked[name].lacking[control] = error.what
                continue
            ranked[name].drawn[control] = [
                condition
                for seed, neurons in enumerate(sets)
                for condition in plan.replace(
                    neurons, group, replacement, control=control, seed=seed
                )
            ]
    return ranked


def rank_sets(
    ranked: Mapping[str, Ranked], results: Results, control: str
) -> dict[str, dict[str, Any]]:
    """Relation -> loss of the own set and of the random ones on the same facts, and p-values."""
    names = [name for name, one in ranked.items() if one.drawn.get(control)]
    if not names:
        return {}
    records: dict[str, dict[str, Any]] = {name: {} for name in names}
    for kind, loss in (("accuracy", lost_accuracy), ("log_p", lost_log_p)):
        own = [loss(results[ranked[n].own]) for n in names]
        drawn = [[loss(results[c]) for c in ranked[n].drawn[control]] for n in names]
        knows = [results[ranked[n].own].correct_before.any() for n in names]
        tested = np.array(own) if kind == "log_p" else np.where(knows, own, np.nan)
        p = max_statistic_test(tested, np.array(drawn))
        for name, value, sets, each in zip(names, own, drawn, p, strict=True):
            records[name] |= {
                f"{kind}_own": value,
                f"{kind}_sets": float(np.mean(sets)),
                f"{kind}_worst": float(np.max(sets)),
                f"{kind}_p": float(each),
                "n_sets": len(sets),
            }
    return records


def lost_accuracy(outcomes: Outcomes) -> float:
    """Share of right answers lost, in answers asked (points, not acc_drop)."""
    return outcomes.accuracy_before - outcomes.accuracy


def lost_log_p(outcomes: Outcomes) -> float:
    """Mean loss of log P."""
    return float((outcomes.log_p_before - outcomes.log_p).mean())


def reachable(material: Material, right: int) -> bool:
    """Whether a verdict of "yes" could come out at all: enough sets, enough to lose."""
    enough = material.config.n_matched >= fewest_sets(material.config.alpha)
    return enough and right >= FEWEST_RIGHT
