"""Controls of the finder: does it find the relation, or its wording, or anything at all?

Claim: expertise is a property of the relation's prompts. METHODS §2, Controls (ours; the paper
compares with uniformly random sets only).

1. **Shuffled labels.** Relations are dealt to other detection prompts at random; sets of the
   same size are found for these labels and switched off on the evaluation prompts. What they
   cost beyond matched random sets is manufactured by the pipeline.
2. **Template control.** The detection facts are asked in other wordings, responses recorded, and
   the average precision of the found neurons computed there, with the same labels. Neurons that
   read the wording fall to chance, neurons that serve the relation do not. Apart for wordings that
   share a content word with the one the fact was found with, and for those that share none.
3. **Wording × subject.** Own or other wording, own or other subject: which of them do the found
   neurons respond to (`crossing.py`)?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.estimates import bootstrap_mean, sign_flip_test
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.scores import Labelling, NeuronScores, draw_negatives, shuffle_labels
from broca.studies.relations.crossing import content_words, cross_records
from broca.studies.relations.figures import finite, interval, mean, mean_estimate
from broca.studies.relations.material import Material, evaluation_group, matched_set
from broca.studies.study import Bench, Findings, Plan, Results


class FinderControls:
    """Shuffled labels and other wordings."""

    name = "relations.controls"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Sets for shuffled labels, and as many matched random ones, off."""
        config = material.config
        plan = material.plan(
            material.groups,
            extra={
                "templates": template_control(material, bench),
                "cross": cross_records(material, bench),
            },
        )
        for seed in range(config.n_shuffled):
            for name, neurons in shuffled_sets(material, bench, config.seed + seed).items():
                group = [evaluation_group(name)]
                plan.switch_off(neurons, group, control="shuffled", seed=seed)
                matched = matched_set(neurons, neurons.name, config.seed)
                plan.switch_off(matched, group, control="shuffled-matched", seed=seed)
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """What shuffled labels cost beyond matched sets; AP in other wordings."""
        shuffles = [
            _shuffle_record(results, name, seed)
            for seed in range(material.config.n_shuffled)
            for name in material.names
        ]
        templates, cross = results.extra["templates"], results.extra["cross"]
        figures = _figures(material, shuffles, templates) | _cross_figures(material, cross)
        return Findings(
            figures=figures,
            tables={"shuffled": shuffles, "templates": templates, "cross": cross},
            words=[*_words(figures, shuffles, templates), *_cross_words(figures, len(cross))],
        )


def shuffled_sets(material: Material, bench: Bench, seed: int) -> dict[str, NeuronSet]:
    """The top k neurons of every relation when labels are dealt to prompts at random."""
    labels = shuffle_labels(material.labels, seed=seed)
    config = material.config
    labellings = {
        name: draw_negatives(labels, name, ratio=config.negatives, seed=config.seed)
        for name in material.names
    }
    scores = bench.score(material.responses, labellings)
    return {n: s.top(material.k, name=f"{n}.shuffled-{seed}") for n, s in scores.items()}


def template_control(material: Material, bench: Bench) -> list[dict[str, Any]]:
    """Mean AP of every set in the wordings it was found with and in others, same labels."""
    other_set = material.config.control_template_set
    lacking = [n for n in material.names if not material.facts[n].templates.get(other_set)]
    if lacking:
        return []
    used = {prompt.fact for prompts in material.detection.values() for prompt in prompts}
    other = {
        prompt.fact: prompt
        for prompt in material.asking.render(material.facts, template_set=other_set, role="control")
        if prompt.fact in used
    }
    order = [other[p.fact] for name in material.names for p in material.detection[name]]
    responses = bench.record(order, material.index.sites, material.config.pooling)
    found = [p for name in material.names for p in material.detection[name]]
    labellings = dict(material.labellings)
    for kind, keep in _by_content(material, found, order).items():
        for name, label in material.labellings.items():
            positive = label.positive & keep
            if positive.any():
                included = label.included & (keep | ~label.positive)
                labellings[f"{name}/{kind}"] = Labelling(positive, included)
    scores = bench.score(responses, labellings)
    return [_template_record(material, name, labellings, scores) for name in material.names]


def _by_content(
    material: Material, found: Sequence[Prompt], other: Sequence[Prompt]
) -> dict[str, np.ndarray]:
    """Which facts' two wordings share a content word, and which share none, bool [prompt]."""

    def words(prompt: Prompt) -> set[str]:
        chosen, _, place = prompt.template.rpartition(".")
        return content_words(material.facts[prompt.relation].templates[chosen][int(place)])

    alike = np.array([bool(words(a) & words(b)) for a, b in zip(found, other, strict=True)])
    return {"alike": alike, "apart": ~alike}


def _template_record(
    material: Material,
    name: str,
    labellings: Mapping[str, Labelling],
    scores: Mapping[str, NeuronScores],
) -> dict[str, Any]:
    values, neurons = scores[name].values, material.sets[name]
    there = material.index.flatten(neurons)
    label = material.labellings[name]
    return {
        "relation": name,
        "ap_found": float(neurons.scores.mean()),
        "ap_other": float(values[there].mean()),
        "ap_all": float(values.mean()),
        "chance": float(label.positive.sum() / label.included.sum()),
        **{
            f"above_{kind}": _above_chance(labellings[key], scores[key].values[there])
            if (key := f"{name}/{kind}") in scores
            else None
            for kind in ("alike", "apart")
        },
        "kept": float(np.isin(there, np.argsort(-values, kind="stable")[: len(there)]).mean()),
    }


def _above_chance(label: Labelling, values: np.ndarray) -> float:
    """Mean (AP − chance) / (1 − chance): comparable whatever the number of positives."""
    chance = label.positive.sum() / label.included.sum()
    return float((values.mean() - chance) / (1 - chance))


def _shuffle_record(results: Results, name: str, seed: int) -> dict[str, Any]:
    group = [evaluation_group(name)]
    shuffled = results.where(group, control="shuffled", seed=seed)
    matched = results.where(group, control="shuffled-matched", seed=seed)
    return {
        "relation": name,
        "seed": seed,
        "before": shuffled.accuracy_before,
        "shuffled": shuffled.accuracy,
        "matched": matched.accuracy,
        "log_p_shuffled": float(shuffled.log_p.mean()),
        "log_p_matched": float(matched.log_p.mean()),
    }


def _figures(
    material: Material, shuffles: Sequence[dict[str, Any]], templates: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {"controls.shuffles": material.config.n_shuffled}
    if shuffles:
        cost = np.array([s["matched"] - s["shuffled"] for s in shuffles])
        estimate = bootstrap_mean(cost, seed=material.config.seed)
        figures |= {
            "controls.shuffled_beyond_matched": estimate.value,
            "controls.shuffled_beyond_matched_low": estimate.low,
            "controls.shuffled_beyond_matched_high": estimate.high,
            "controls.shuffled_p": sign_flip_test(
                cost, seed=material.config.seed, alternative="two-sided"
            ),
        }
    if templates:
        for key in ("ap_found", "ap_other", "chance", "kept"):
            figures[f"controls.template_{key}"] = float(np.mean([t[key] for t in templates]))
        for kind in ("alike", "apart"):
            figures[f"controls.template_above_{kind}"] = mean(t[f"above_{kind}"] for t in templates)
    return figures


def _cross_figures(material: Material, cross: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for key in ("by_wording", "by_subject", "wording_share"):
        values = finite(record[key] for record in cross)
        figures |= interval(f"controls.cross_{key}", mean_estimate(values, material.config))
    return figures


def _cross_words(figures: Mapping[str, Any], n: int) -> list[str]:
    share, low, high = (
        figures[f"controls.cross_wording_share{end}"] for end in ("", "_low", "_high")
    )
    if not np.isfinite(share):
        return []
    ends = f" [{low:.0%}, {high:.0%}]" if np.isfinite(low) else ""
    return [
        f"What makes the neurons respond is the wording to {share:.0%}{ends}, the subject to the "
        f"rest: own or other wording × own or other subject, mean over {n} relations."
    ]


def _words(
    figures: Mapping[str, Any],
    shuffles: Sequence[dict[str, Any]],
    templates: Sequence[dict[str, Any]],
) -> list[str]:
    words = []
    if shuffles:
        cost, low, high = (
            100 * figures[f"controls.shuffled_beyond_matched{end}"] for end in ("", "_low", "_high")
        )
        words.append(
            f"Sets found for shuffled labels cost {cost:+.1f} [{low:+.1f}, {high:+.1f}] points of "
            f"accuracy beyond matched random sets (mean of {len(shuffles)} sets)."
        )
    if templates:
        found, other, chance = (
            float(np.mean([t[key] for t in templates]))
            for key in ("ap_found", "ap_other", "chance")
        )
        words.append(
            f"In wordings they were not found with, the neurons' average precision is {other:.2f}, "
            f"against {found:.2f} in those they were found with and {chance:.2f} by chance."
        )
        alike, apart = (figures[f"controls.template_above_{kind}"] for kind in ("alike", "apart"))
        if np.isfinite(alike) and np.isfinite(apart):
            words.append(
                f"Above chance it is {alike:.2f} of what is possible in wordings that share a "
                f"content word with those of finding, and {apart:.2f} in those that share none."
            )
    else:
        words.append("The facts have no second set of wordings: no template control.")
    return words


STUDIES = (FinderControls(),)
