"""One k for all relations, chosen on detection prompts only (ours; the paper fixes k = 3,000).

1. Detection subjects are halved, the same way for all relations. On each half, neurons are
   scored as usual, with positives and negatives of that half.
2. For every size of a geometric ladder, the top neurons found on one half are switched off on
   prompts of the **other** half: the relation's own, some of every other relation, and the own
   ones again with matched random sets off.
3. gain(k) = mean over relations of own drop − weight · max(other drop, matched drop, 0), less
   `k_doubling` for every doubling of k over the smallest size, where a drop is acc_drop of
   METHODS §2 over both halves together, and other drop its mean over the other relations. The k of
   the highest gain is taken, the smallest of equals.
4. Where the untouched model answers nothing rightly, drops of log P take the place of acc_drop.

Evaluation prompts play no part. Afterwards the sets are found again on all detection prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from broca.errors import StudyError
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.responses import Responses
from broca.scores import Labelling, NeuronScores, draw_negatives
from broca.studies.relations.config import RelationsConfig, number_of_neurons
from broca.studies.relations.material import HALVES, checked_groups, detection_groups, matched_set
from broca.studies.study import Bench, Condition, Outcomes, Plan, Results

SELECTION = "relations.selection"
N_MATCHED = 2  # a rough figure is enough to choose by


def choose_k(
    config: RelationsConfig,
    bench: Bench,
    detection: Mapping[str, Sequence[Prompt]],
    responses: Responses,
    half: Mapping[str, str],
) -> tuple[int, list[dict[str, Any]]]:
    """The chosen number of neurons, and a record per number tried.

    Raises:
        StudyError: If fewer than two relations have detection prompts in both halves.
    """
    checked = checked_groups(detection, half, config.n_checked)
    names = [n for n in detection if all(checked[group] for group in detection_groups(n))]
    if len(names) < 2:
        raise StudyError(
            "k cannot be chosen: too few detection prompts to halve them",
            mend="Give k as a number or a share, or give more facts",
        )
    labellings = half_labellings(
        config, {n: detection[n] for n in names}, responses.prompt_ids, half
    )
    scored = bench.score(responses, labellings)
    scores = {letter: {n: scored[f"{letter}/{n}"] for n in names} for letter in HALVES}
    n_neurons = len(responses.index)
    ladder = sorted({number_of_neurons(share, n_neurons) for share in config.k_ladder})
    plan, trials = _lay_out(config, names, checked, scores, ladder)
    results = bench.measure(SELECTION, plan)
    table = _weigh(config, names, trials, results, n_neurons)
    best = max(range(len(table)), key=lambda row: (table[row]["gain"], -row))
    for row, record in enumerate(table):
        record["chosen"] = row == best
    return int(table[best]["k"]), table


def half_labellings(
    config: RelationsConfig,
    detection: Mapping[str, Sequence[Prompt]],
    prompt_ids: Sequence[str],
    half: Mapping[str, str],
) -> dict[str, Labelling]:
    """`half/relation` -> positives and negatives, from the detection prompts of that half alone."""
    relation = {prompt.id: name for name, prompts in detection.items() for prompt in prompts}
    labels = np.array([relation.get(prompt, "") for prompt in prompt_ids], dtype=object)
    labellings = {}
    for letter in HALVES:
        here = np.array([half[prompt] == letter for prompt in prompt_ids])
        rows = np.flatnonzero(here & (labels != ""))
        for name in detection:
            drawn = draw_negatives(
                list(labels[rows]), name, ratio=config.negatives, seed=config.seed
            )
            positive, included = np.zeros((2, len(labels)), bool)
            positive[rows], included[rows] = drawn
            labellings[f"{letter}/{name}"] = Labelling(positive, included)
    return labellings


@dataclass
class _Trial:
    """The conditions that try one size for one relation."""

    own: list[Condition] = field(default_factory=list)
    matched: list[Condition] = field(default_factory=list)
    others: dict[str, list[Condition]] = field(default_factory=dict)


def _lay_out(
    config: RelationsConfig,
    names: Sequence[str],
    checked: Mapping[str, Sequence[Prompt]],
    scores: Mapping[str, Mapping[str, NeuronScores]],
    ladder: Sequence[int],
) -> tuple[Plan, dict[int, dict[str, _Trial]]]:
    spots = {
        f"spot/{name}/{letter}": tuple(checked[f"detection/{name}/{letter}"][: config.n_spot])
        for name in names
        for letter in HALVES
    }
    plan = Plan({**checked, **spots})
    trials: dict[int, dict[str, _Trial]] = {}
    for k in ladder:
        sets = {
            (name, found): scores[found][name].top(k, name=f"{name}.half-{found}.{k}")
            for name, found in product(names, HALVES)
        }
        if trials and not all(_leaves_room(neurons) for neurons in sets.values()):
            break  # no matched random sets of this size
        trials[k] = {name: _Trial() for name in names}
        for name, (found, tried) in product(names, (HALVES, HALVES[::-1])):
            _try(plan, trials[k][name], sets[name, found], name, tried, names, config.seed)
    return plan, trials


def _leaves_room(neurons: NeuronSet) -> bool:
    """Whether every layer has room for a random set beside this one, and a third to spare."""
    counts = neurons.counts().items()
    return all(2.5 * n <= neurons.identity.width(site, layer) for (site, layer), n in counts)


def _try(
    plan: Plan,
    trial: _Trial,
    neurons: NeuronSet,
    name: str,
    half: str,
    names: Sequence[str],
    seed: int,
) -> None:
    """Switch neurons found on one half off on prompts of the other."""
    own = [f"detection/{name}/{half}"]
    trial.own += plan.switch_off(neurons, own)
    for number in range(seed, seed + N_MATCHED):
        drawn = matched_set(neurons, neurons.name, number)
        trial.matched += plan.switch_off(drawn, own, control="matched", seed=number)
    for other in names:
        if other != name:
            spot = plan.switch_off(neurons, [f"spot/{other}/{half}"])
            trial.others.setdefault(other, []).extend(spot)


def _weigh(
    config: RelationsConfig,
    names: Sequence[str],
    trials: Mapping[int, Mapping[str, _Trial]],
    results: Results,
    n_neurons: int,
) -> list[dict[str, Any]]:
    smallest, first = next(iter(trials.items()))
    knows = any(results[first[name].own].correct_before.any() for name in names)
    drop = _accuracy_drop if knows else _log_p_drop
    table = []
    for k, by_relation in trials.items():
        drops = []
        for trial in by_relation.values():
            own = drop(results[trial.own])
            matched = drop(results[trial.matched])
            other = _mean([drop(results[conditions]) for conditions in trial.others.values()])
            gain = own - config.k_other_weight * np.nanmax([other, matched, 0.0])
            gain -= config.k_doubling * np.log2(k / smallest)
            drops.append((own, other, matched, gain))
        own, other, matched, gain = (_mean(column) for column in zip(*drops, strict=True))
        table.append(
            {
                "k": k,
                "share": k / n_neurons,
                "own": own,
                "other": other,
                "matched": matched,
                "gain": gain,
                "by": "accuracy" if knows else "log_p",
            }
        )
    return table


def _accuracy_drop(outcomes: Outcomes) -> float:
    return outcomes.drop


def _log_p_drop(outcomes: Outcomes) -> float:
    return float((outcomes.log_p_before - outcomes.log_p).mean())


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else 0.0
