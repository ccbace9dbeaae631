"""Intra-relation: does a relation lose its answers when its own neurons are off?

Claim: switching off a relation's neurons lowers its accuracy, on the prompts they were found on
and on facts never seen, and random neurons do not. arXiv 2502.17355, section 4.1, figure 2.

1. Every relation's evaluation prompts, and its checked detection prompts, are asked untouched;
   with its own neurons off; with uniformly random sets off (the paper's control); with matched
   random sets off (same count per site and layer, outside the set: ours).
2. Accuracy and mean log P of each, with bootstrap intervals over facts; accuracy on objects of
   one token and of more tokens apart; acc_drop of METHODS §2.
3. Test of each own loss: its rank among `n_matched` matched sets on the same `n_null` facts,
   corrected over relations by the maximum (`ranking.py`); beside it, "than these sets", sign flips
   over evaluation facts of (mean right with a few matched sets off − right with the own set off),
   one-sided, Holm over relations.
4. Verdict: "yes" where the rank is significant and the loss beyond matched sets surely larger than
   `smallest_points`.

What differs from the paper: log P, matched and activity-matched sets, intervals and tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.estimates import (
    Estimate,
    bootstrap_mean,
    holm,
    judge,
    relative_loss,
    share,
    sign_flip_test,
)
from broca.store import summary_key
from broca.studies.relations.material import Material, detection_groups, evaluation_group
from broca.studies.relations.ranking import (
    ACTIVE,
    MATCHED,
    null_groups,
    plan_ranks,
    rank_sets,
    reachable,
)
from broca.studies.study import Bench, Findings, Outcomes, Plan, Results

PARTS = ("evaluation", "detection")
OFF = ("nothing", "own", "matched", "uniform")
RANKED = (
    *("n_sets", "accuracy_own", "accuracy_sets", "accuracy_worst", "accuracy_p"),
    *("log_p_own", "log_p_sets", "log_p_p"),
)


class IntraRelation:
    """Untouched, own, matched random and uniformly random neurons off."""

    name = "relations.intra"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Own, matched and uniform sets off on every relation's own prompts."""
        config = material.config
        whole = material.groups
        plan = material.plan({**whole, **null_groups(material)})
        plan.ask(plan.groups)
        for name in material.names:
            own = [group for part in PARTS for group in groups_of(name, part)]
            plan.switch_off(material.sets[name], own)
            for seed in range(min(config.n_matched, config.n_matched_whole)):
                matched = material.matched(name, seed)
                plan.switch_off(matched, own, control="matched", seed=seed)
        for seed in range(config.n_uniform):
            plan.switch_off(material.uniform(seed), whole, control="uniform", seed=seed)
        plan.extra = {"ranked": plan_ranks(plan, material, material.replacement)}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Accuracies with what was off, own drops with their tests."""
        bars = [bar for name in material.names for bar in _bars(material, results, name)]
        ranks = {
            kind: rank_sets(results.extra["ranked"], results, kind) for kind in (MATCHED, ACTIVE)
        }
        drops = [_drop(material, results, name) for name in material.names]
        _adjust(drops)
        for record in drops:
            _verdict(material, record, {k: r.get(record["relation"]) for k, r in ranks.items()})
        return Findings(
            figures=_figures(material, drops, bars),
            tables={
                "accuracy": bars,
                "drops": drops,
                "k": list(material.k_table),
                "skipped": [{"relation": r, "reason": why} for r, why in material.skipped.items()],
            },
            words=[*_words(material, drops, bars), *material.notes],
        )


def groups_of(name: str, part: str) -> list[str]:
    """Groups of a relation's evaluation or checked detection prompts."""
    return [evaluation_group(name)] if part == "evaluation" else detection_groups(name)


def outcomes_with(results: Results, name: str, part: str, off: str) -> Outcomes:
    """Outcomes of a relation's prompts with nothing, its own or random sets off."""
    groups = groups_of(name, part)
    if off == "nothing":
        return results.where(groups, intervention="none")
    if off == "own":
        return results.where(groups, set=name)
    return results.where(groups, control=off)


def _bars(material: Material, results: Results, name: str) -> list[dict[str, Any]]:
    """Accuracy and log P of one relation, by part and by what was off."""
    bars = []
    for part in PARTS:
        for off in OFF:
            outcomes = outcomes_with(results, name, part, off)
            if len(outcomes):
                bars.append(_bar(material, outcomes, relation=name, part=part, off=off))
    return bars


def _bar(material: Material, outcomes: Outcomes, **labels: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "groups": list(outcomes.fact),  # one fact under many random sets is one fact
        "seed": material.config.seed,
        "n_resamples": material.config.n_resamples,
    }
    accuracy = share(outcomes.correct, groups=list(outcomes.fact))
    log_p = bootstrap_mean(outcomes.log_p, **options)
    short = outcomes.n_answer_tokens == 1
    return {
        **labels,
        "n": accuracy.n,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "log_p": log_p.value,
        "log_p_low": log_p.low,
        "log_p_high": log_p.high,
        "accuracy_one_token": _mean(outcomes.correct[short]),
        "accuracy_longer": _mean(outcomes.correct[~short]),
        "share_one_token": float(short.mean()),
    }


def _drop(material: Material, results: Results, name: str) -> dict[str, Any]:
    """The own drop on evaluation facts, its controls and its test."""
    config = material.config
    own = outcomes_with(results, name, "evaluation", "own")
    matched = outcomes_with(results, name, "evaluation", "matched")
    uniform = outcomes_with(results, name, "evaluation", "uniform")
    detection = outcomes_with(results, name, "detection", "own")
    right_matched = _by_fact(matched, matched.correct)
    before, after = own.correct_before.astype(float), own.correct.astype(float)
    spared = np.array([right_matched[fact] for fact in own.prompt])
    options: dict[str, Any] = {"seed": config.seed, "n_resamples": config.n_resamples}
    drop = relative_loss(before, after)
    log_p = bootstrap_mean(own.log_p_before - own.log_p, **options)
    log_p_matched = _by_fact(matched, matched.log_p)
    gained = np.array([log_p_matched[fact] for fact in own.prompt]) - own.log_p
    testable = own.accuracy_before > 0
    beyond = bootstrap_mean(spared - after, **options)
    return {
        "relation": name,
        "k": len(material.sets[name]),
        "n": len(own),
        "before": own.accuracy_before,
        "after": own.accuracy,
        "right": int(own.correct_before.sum()),
        "lost": int((own.correct_before & ~own.correct).sum()),
        "beyond": beyond.value,
        "beyond_low": beyond.low,
        "beyond_high": beyond.high,
        "own_drop": drop.value,
        "own_drop_low": drop.low,
        "own_drop_high": drop.high,
        "own_drop_detection": detection.drop,
        "matched_drop": matched.drop,
        "matched_drop_worst": _worst(results, name),
        "uniform_drop": uniform.drop,
        "log_p_drop": log_p.value,
        "log_p_drop_low": log_p.low,
        "log_p_drop_high": log_p.high,
        "log_p_matched_drop": float((matched.log_p_before - matched.log_p).mean()),
        "p": _flip(spared - after, config) if testable else float("nan"),
        "p_log_p": _flip(gained, config),
    }


def _flip(differences: np.ndarray, config: Any) -> float:
    return sign_flip_test(differences, n_permutations=config.n_permutations, seed=config.seed)


def _by_fact(outcomes: Outcomes, values: np.ndarray) -> dict[str, float]:
    """Mean over random sets of each prompt's value."""
    sums: dict[str, list[float]] = {}
    for prompt, value in zip(outcomes.prompt, values.astype(float), strict=True):
        sums.setdefault(prompt, []).append(value)
    return {prompt: float(np.mean(listed)) for prompt, listed in sums.items()}


def _worst(results: Results, name: str) -> float:
    """The largest drop of any single matched set."""
    groups = groups_of(name, "evaluation")
    conditions = results.conditions(groups, control="matched")
    drops = [results[condition].drop for condition in conditions]
    return float(np.max(drops)) if drops and np.isfinite(drops).all() else float("nan")


def _adjust(drops: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p-values of the flips over facts to the records."""
    for kind in ("p", "p_log_p"):
        for record, p in zip(drops, holm([d[kind] for d in drops]), strict=True):
            record[f"{kind}_holm"] = float(p)


def _verdict(
    material: Material, record: dict[str, Any], ranks: Mapping[str, Mapping[str, Any] | None]
) -> None:
    """Add the own set's rank among random sets, and what it allows to be said."""
    for kind, found in ranks.items():
        for entry in RANKED:
            record[f"{kind}_{entry}"] = found[entry] if found else float("nan")
    config, p = material.config, record["matched_accuracy_p"]
    beyond = Estimate(record["beyond"], record["beyond_low"], record["beyond_high"], record["n"])
    possible = reachable(material, record["right"])
    verdict = judge(beyond, config.smallest_points, p=p, alpha=config.alpha, reachable=possible)
    record["verdict"] = verdict
    record["significant"] = bool(possible and p < config.alpha)


def _figures(
    material: Material, drops: Sequence[dict[str, Any]], bars: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {
        "effect.k": material.k,
        "effect.k_share": material.k / len(material.index),
        "effect.neurons": len(material.index),
        "effect.relations_given": len(material.names) + len(material.skipped),
        "effect.relations_skipped": len(material.skipped),
        "effect.relations_tested": sum(d["verdict"] != "cannot tell" for d in drops),
        "effect.relations_significant": sum(d["significant"] for d in drops),
        "effect.relations_significant_log_p": sum(
            d["matched_log_p_p"] < material.config.alpha for d in drops
        ),
        "effect.relations_yes": sum(d["verdict"] == "yes" for d in drops),
        "effect.smallest_points": material.config.smallest_points,
        "effect.matched_sets": material.config.n_matched,
    }
    judged = np.array([d["beyond"] for d in drops if d["verdict"] != "cannot tell"])
    over = bootstrap_mean(judged, seed=material.config.seed) if len(judged) else None
    for end in ("value", "low", "high"):
        name = "effect.beyond_matched" + ("" if end == "value" else f"_{end}")
        figures[name] = getattr(over, end) if over else float("nan")
    for key in ("own_drop", "own_drop_detection", "matched_drop", "uniform_drop"):
        figures[f"effect.{key}_median"] = _median([d[key] for d in drops])
    figures["effect.log_p_drop_median"] = _median([d["log_p_drop"] for d in drops])
    for part in PARTS:
        untouched = [b["accuracy"] for b in bars if b["part"] == part and b["off"] == "nothing"]
        figures[f"effect.accuracy_{part}"] = _mean(np.array(untouched))
    kept = ("before", "after", "own_drop", "matched_drop", "uniform_drop", "log_p_drop", "p_holm")
    for record in drops:
        for key in kept:
            figures[summary_key("effect", record["relation"], key)] = record[key]
    return figures


def _words(
    material: Material, drops: Sequence[dict[str, Any]], bars: Sequence[dict[str, Any]]
) -> list[str]:
    tested = [d for d in drops if np.isfinite(d["p"])]
    config = material.config
    size = f"{material.k:,} neurons ({material.k / len(material.index):.2%} of all)"
    loss = f"log P falls by {_median([d['log_p_drop'] for d in drops]):.2f} in the median"
    words = [f"With a relation's own {size} off, {loss} over relations."]
    if tested:
        ranked = [d for d in tested if d["significant"]]
        active = [d for d in tested if d["active_accuracy_p"] < config.alpha]
        large = [d for d in tested if d["verdict"] == "yes"]
        words = [
            f"Switching off a relation's own {size} costs it "
            f"{_median([d['own_drop'] for d in tested]):.0%} of its right answers in the median "
            f"over relations, matched random sets "
            f"{_median([d['matched_drop'] for d in tested]):.0%}; {loss}.",
            f"In {len(ranked)} of {len(tested)} relations the own set costs more than "
            f"{config.n_matched} matched sets do (its rank among them on {config.n_null} facts, "
            f"corrected over relations, p < {config.alpha:g}); in {len(large)} the loss is also "
            f"surely above {100 * config.smallest_points:g} points of accuracy.",
        ]
        if config.n_active:
            words.append(
                f"Beside sets that are as active, site by site and layer by layer, that holds in "
                f"{len(active)} of {len(tested)}."
            )
    if len(material.k_table) > 1 and material.k_table[-1]["chosen"]:
        words.append("k is the largest number tried: the loss may not have reached its height.")
    words += config.doubts()
    spared = [d["relation"] for d in tested if d["verdict"] in ("not shown", "no")]
    if spared:
        words.append(f"No such loss was shown for {', '.join(spared)}.")
    if len(tested) < len(drops):
        unknown = [d["relation"] for d in drops if not np.isfinite(d["p"])]
        words.append(
            f"The model answers no evaluation prompt of {', '.join(unknown)} rightly: "
            "there is no accuracy to lose, only log P."
        )
    for relation, reason in material.skipped.items():
        words.append(f"{relation} was left out: {reason}.")
    if material.config.detection_filter == "none":
        words.append("Detection prompts that the model answers wrongly were kept.")
    return words


def _mean(values: np.ndarray) -> float:
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if len(finite) else float("nan")


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else float("nan")


STUDIES = (IntraRelation(),)
