"""Truth: how do attributions agree with what neurons do, one by one and together?

Claim tested: the neurons of the largest attribution are those that carry the answer. An attribution
may be integrated accurately and still be another quantity than the effect of a neuron (METHODS §8).

1. Of at most `n_truth` queries with neurons, in turn from every field, the first prompt. Its
   attributions are computed again, of every neuron.
2. Single truth: every hidden neuron is set to 0 alone, wherever the answer is read; E = log P after
   - log P before (`broca.ablate_each`). Models of more than `MOST` neurons measure a share of them.
3. Agreement: Spearman over the neurons measured, and the share of the v largest losses that are
   among the v largest attributions.
4. Joint truth: the v neurons of the largest attribution, of the largest loss, and v random ones,
   are set to 0 together; so is the query's NA-ICA set, beside what its neurons cost one by one.
5. Means over prompts with intervals. The verdict needs both means of step 3 beyond
   `broca.estimates.verdicts.AGREES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broca.choices import Letters
from broca.effects import ablate_each, ablate_sets
from broca.effects.agreement import agreement, ranked
from broca.errors import EffectError
from broca.estimates import Estimate, bootstrap_mean, judge_agreement
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet
from broca.studies.queries.attributing import Asked, attribute_asked
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect_words import with_ends
from broca.studies.queries.effects import spread as with_interval
from broca.studies.queries.material import Material, Part, QueryBench, spread
from broca.studies.study import Findings, Plan, Results

MOST = 4000  # neurons measured of a prompt
"""Correlation and recall from which on attributions agree with single effects."""
SETS = ("attribution", "exact", "random")


class Truth:
    """Attributions against the effects of single neurons and of sets."""

    name = "queries.truth"

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Prompts are judged while the model is at hand; nothing is asked."""
        config, part = material.config, material.part("field", bench)
        queries, items = spread(part, config.n_truth), []
        for query in queries:
            asked, neurons = part.asked[query][0], part.neurons(query, "na-ica")
            determinants = {
                "asked": [asked.prompt.id, asked.prompt.text, asked.target],
                "set": neurons.digest,
                "attribution": [config.method, config.n_steps, config.path, config.site],
                "v": config.v,
                "seed": config.seed,
            }
            items.append((determinants, (asked, neurons)))
        records, reason = [], ""
        try:
            judged = bench.keep(
                "truth", lambda model, item: judge_prompt(model, item[0], item[1], config), items
            )
        except EffectError as error:
            reason = str(error)
        else:
            records = [
                {"query": query, "field": part.questions[query].field, **figures}
                for query, figures in zip(queries, judged, strict=True)
            ]
        return Plan({}, extra={"part": part, "records": records, "reason": reason})

    def summarise(self, material: Material, results: Results) -> Findings:
        """Means over prompts, and every prompt."""
        config, part = material.config, results.extra["part"]
        records: list[dict[str, Any]] = results.extra["records"]
        if not records:
            reason = results.extra["reason"] or "no query has neurons"
            return Findings({}, {}, [f"Effects of single neurons cannot be measured: {reason}"])
        mean: dict[str, Any] = {"n": len(records), "v": config.v}
        for name in FIGURES:
            values = np.array([record[name] for record in records])
            found = bootstrap_mean(values, seed=config.seed, n_resamples=config.n_resamples)
            least, most = FIGURES[name]
            low, high = np.clip([found.low, found.high], least, most).tolist()
            mean |= with_interval(name, Estimate(found.value, low, high, found.n))
        ends = [(mean[f"{n}_low"], mean[f"{n}_high"]) for n in ("spearman", "recall")]
        mean["verdict"] = judge_agreement(*ends)
        return Findings(
            {f"queries.truth.{name}": mean[name] for name in (*FIGURES, "n")},
            {"agreement": [mean], "prompts": records},
            [_words(mean, part)],
        )


FIGURES = {
    "spearman": (-1.0, 1.0),
    "pearson": (-1.0, 1.0),
    "recall": (0.0, 1.0),
    **dict.fromkeys((*(f"joint_{name}" for name in SETS), "own_joint"), (-1.0, np.inf)),
    "own_single": (-1.0, np.inf),
    "measured": (0.0, 1.0),
}
"""Figures of a prompt, and between which values their means lie."""


def judge_prompt(
    model: LanguageModel, asked: Asked, own: NeuronSet, config: QueriesConfig
) -> dict[str, float]:
    """All figures of one prompt.

    Raises:
        EffectError: Single effects cannot be measured in this model.
    """
    if config.site != "hidden":
        raise EffectError("Single effects are those of hidden neurons", f"site = {config.site!r}")
    targets = targets_of(asked)
    n_neurons = len(index := NeuronIndex(model.identity, ("hidden",)))
    share = None if n_neurons <= MOST else MOST / n_neurons
    loss = -exact_effects(model, targets, share)
    values = next(attribute_asked(model, [asked], config)).values
    values = index.as_grid(index.of_grid(values), fill=np.nan)  # narrow layers end early
    size = min(config.v, n_neurons)
    rng = np.random.default_rng([config.seed, 5])
    orders = {
        "attribution": index.from_grid(ranked(values)[:size]),
        "exact": index.from_grid(ranked(loss)[:size]),
        "random": rng.choice(n_neurons, size, replace=False),
    }
    joint = {n: joint_effect(model, targets, index.select(flat)) for n, flat in orders.items()}
    width = model.identity.width("hidden")
    single = loss.ravel()[own.layers.astype(np.int64) * width + own.indices]
    return {
        **{n: agreement(values, loss, size)[n] for n in ("spearman", "pearson", "recall")},
        **{f"joint_{name}": change for name, change in joint.items()},
        "own_joint": joint_effect(model, targets, own),
        "own_single": float(np.expm1(-np.nansum(single))),
        "measured": float(np.mean(~np.isnan(index.of_grid(loss)))),
    }


def targets_of(asked: Asked) -> list[tuple[list[int], int]]:
    """Tokens up to each of the answer's tokens, and that token."""
    tokens = list(asked.tokens)
    answer = [asked.target] if isinstance(asked, Letters) else list(asked.target)
    return [([*tokens, *answer[:number]], token) for number, token in enumerate(answer)]


def exact_effects(
    model: LanguageModel, targets: Sequence[tuple[list[int], int]], share: float | None
) -> np.ndarray:
    """Change of log P of the whole answer without each neuron alone, [layer, neuron]."""
    tokens, answer = targets[0][0], [token for _, token in targets]
    found = ablate_each(model, [tokens], target=[answer], prefilter=share, progress=False)
    return np.asarray(found[0].values, dtype=float)


def joint_effect(
    model: LanguageModel, targets: Sequence[tuple[list[int], int]], neurons: NeuronSet
) -> float:
    """(P' - P) / P of the whole answer without all neurons of a set."""
    change = 0.0
    for tokens, token in targets:
        found = ablate_sets(model, [tokens], neurons, [len(neurons)], target=[token])
        change += float(found.after[0, 0] - found.before[0])
    return float(np.expm1(change))


def _words(mean: dict[str, Any], part: Part) -> str:
    joint = ", ".join(
        f"{label} {with_ends(mean, f'joint_{name}')}"
        for name, label in zip(SETS, ("attribution", "single loss", "random"), strict=True)
    )
    return (
        f"Over {mean['n']} prompts, attributions and the exact effects of single neurons correlate "
        f"by {with_ends(mean, 'spearman', 'z.2f')} (Spearman); of the {mean['v']} neurons of the "
        f"largest loss {with_ends(mean, 'recall', 'z.0%')} are among the {mean['v']} of the "
        f"largest attribution. Set to 0 together, the first {mean['v']} by each change P: {joint}. "
        f"NA-ICA's sets: together {with_ends(mean, 'own_joint')}, the sum of their single effects "
        f"{with_ends(mean, 'own_single')}."
    )


STUDIES = (Truth(),)
