"""Means, medians and drops of the relation studies, where some of the values may be undefined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from broca.errors import NeuronError
from broca.estimates import Estimate, bootstrap_mean, holm, relative_loss, sign_flip_test
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.studies.relations.config import RelationsConfig
from broca.studies.relations.material import Material, evaluation_group, matched_set
from broca.studies.study import Condition, Outcomes, Results

NAN = float("nan")


def finite(values: Iterable[float | None]) -> np.ndarray:
    """The values that are defined."""
    array = np.array([NAN if value is None else value for value in values], dtype=float)
    return array[np.isfinite(array)]


def mean(values: Iterable[float | None]) -> float:
    """Mean of the defined values, NaN if there are none."""
    array = finite(values)
    return float(array.mean()) if len(array) else NAN


def means(records: Sequence[Mapping[str, Any]], *keys: str) -> dict[str, float]:
    """Means of entries of records, each over the records in which it is defined."""
    return {key: mean(record[key] for record in records) for key in keys}


def median(values: Iterable[float | None]) -> float:
    """Median of the defined values, NaN if there are none."""
    array = finite(values)
    return float(np.median(array)) if len(array) else NAN


def percent(share: float) -> str:
    """A share in words."""
    return f"{share:.0%}" if np.isfinite(share) else "an undefined share"


def p_words(p: float) -> str:
    """A p-value in words; the smallest ones are not written as 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def drop_estimate(outcomes: Outcomes) -> Estimate:
    """acc_drop with its interval over facts."""
    return relative_loss(outcomes.correct_before, outcomes.correct, groups=list(outcomes.fact))


def log_p_drop(outcomes: Outcomes) -> float:
    """Mean loss of log P, NaN where nothing was asked."""
    return float((outcomes.log_p_before - outcomes.log_p).mean()) if len(outcomes) else NAN


def mean_estimate(values: np.ndarray, config: RelationsConfig, groups: Any = None) -> Estimate:
    """Mean with an interval by the settings, undefined where there is no value."""
    if not len(values):
        return Estimate(NAN, NAN, NAN, 0)
    return bootstrap_mean(values, groups=groups, seed=config.seed, n_resamples=config.n_resamples)


def interval(name: str, estimate: Estimate) -> dict[str, float]:
    """An estimate as three entries of a record."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def by_prompt(outcomes: Outcomes, values: np.ndarray) -> dict[str, float]:
    """Mean value of each prompt, over the several conditions it was asked under."""
    sums: dict[str, list[float]] = {}
    for prompt, value in zip(outcomes.prompt, values.astype(float), strict=True):
        sums.setdefault(prompt, []).append(value)
    return {prompt: float(np.mean(listed)) for prompt, listed in sums.items()}


def spared(own: Outcomes, control: Outcomes, values: str = "correct") -> np.ndarray:
    """Per fact, what it keeps with control sets off and loses with the own set off."""
    kept = by_prompt(control, getattr(control, values))
    return np.array([kept[prompt] for prompt in own.prompt]) - getattr(own, values).astype(float)


def flip_p(differences: np.ndarray, config: RelationsConfig) -> float:
    """One-sided sign-flip p-value; facts without a difference decide nothing and are left out."""
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    return sign_flip_test(moved, n_permutations=config.n_permutations, seed=config.seed)


def adjust(records: Sequence[dict[str, Any]], key: str) -> None:
    """Add Holm's p-values to records, as `<key>_holm`."""
    for record, p in zip(records, holm([r[key] for r in records]), strict=True):
        record[f"{key}_holm"] = float(p)


def control_set(neurons: NeuronSet, index: NeuronIndex, seed: int) -> NeuronSet:
    """A matched random set; a uniformly random one where a layer has no room for a matched one."""
    try:
        return matched_set(neurons, neurons.name, seed)
    except NeuronError:
        return uniform_random(index, len(neurons), seed, name=f"{neurons.name}.uniform-{seed}")


def other_groups(material: Material, name: str) -> list[str]:
    """Names of the small groups of evaluation prompts of all other relations."""
    return [spot_group(other) for other in material.names if other != name]


def spot_group(relation: str) -> str:
    """Name of the group of the first evaluation prompts of a relation."""
    return f"evaluation-spot/{relation}"


def groups_with_spots(material: Material) -> dict[str, Sequence[Any]]:
    """Evaluation prompts by group, and the first `n_other` of each relation apart."""
    groups: dict[str, Sequence[Any]] = {}
    for name in material.names:
        prompts = material.evaluation[name]
        groups[evaluation_group(name)] = prompts
        groups[spot_group(name)] = tuple(prompts[: material.config.n_other])
    return groups


def mean_drop(results: Results, conditions: Sequence[Condition]) -> float:
    """Mean acc_drop over conditions, one per relation asked."""
    return mean(results[condition].drop for condition in conditions)
