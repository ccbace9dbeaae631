"""From predictions to tables, figures of the summary, and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broca.errors import EstimateError
from broca.estimates import auroc, bootstrap_paired, holm, share, sign_flip_test
from broca.store import summary_key
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect_words import listed
from broca.studies.queries.effects import spread
from broca.studies.queries.material import Part, near_chance
from broca.studies.queries.published import published_prediction
from broca.studies.study import Findings

ALL = "all"
PREFIX = "queries.prediction"
ESTIMATES = ("neurons", "model", "beyond_model", "beyond_random", "beyond_chance", "auroc")


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of held-out prompts, one entry per prompt.

    Attributes:
        query: Their queries.
        n_options: Number of options.
        chosen: Option the model prefers.
        right: The right one.
        picked: Option the neurons pick, [set, prompt]: the field's neurons, then random ones.
        margin: How far the model's option is ahead by the neurons, [set, prompt].
        n_neurons: Neurons of the field.
        n_detection: Queries they were found from.
        fields: Number of each prompt's field, where there are several.
    """

    query: tuple[str, ...]
    n_options: np.ndarray
    chosen: np.ndarray
    right: np.ndarray
    picked: np.ndarray
    margin: np.ndarray
    n_neurons: int
    n_detection: int
    fields: np.ndarray | None = None

    def by_query(self, values: np.ndarray) -> np.ndarray:
        """Mean over each query's prompts, [query]."""
        names = list(dict.fromkeys(self.query))
        place = np.array([names.index(query) for query in self.query])
        return np.bincount(place, np.asarray(values, float)) / np.bincount(place)


def together(several: Sequence[Predicted]) -> Predicted:
    """All fields as one; neurons are those of the field of each prompt."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in several], axis=-1)

    return Predicted(
        tuple(query for one in several for query in one.query),
        *(joined(name) for name in ("n_options", "chosen", "right", "picked", "margin")),
        n_neurons=sum(one.n_neurons for one in several),
        n_detection=sum(one.n_detection for one in several),
        fields=np.repeat(np.arange(len(several)), [len(one.query) for one in several]),
    )


def prediction_findings(
    config: QueriesConfig,
    part: Part,
    predicted: Mapping[str, Predicted],
    left_out: Mapping[str, str],
) -> Findings:
    """Everything the report shows of the study.

    Args:
        config: The settings.
        part: The queries.
        predicted: Field -> predictions.
        left_out: Field -> why it has none.
    """
    records = [_record(name, one, config) for name, one in predicted.items()]
    for record, p in zip(records, holm([r["p"] for r in records]), strict=True):
        record["p_holm"] = float(p)
    if records:
        whole = _record(ALL, together(list(predicted.values())), config)
        records.insert(0, whole | {"p_holm": whole["p"]})
    near = near_chance(part.accuracy().low, part.chance())
    tables = {
        "caution": [{"near_chance": near}],
        "fields": records,
        "queries": [row for name, one in predicted.items() for row in _queries(name, one, part)],
        "left_out": [{"field": name, "reason": reason} for name, reason in left_out.items()],
        "published": published_prediction(),
    }
    words = _words(records, left_out, config.alpha, near)
    return Findings(_figures(records), tables, words)


def _record(field: str, one: Predicted, config: QueriesConfig) -> dict[str, Any]:
    """Accuracies, their paired differences, and AUROC (steps 4 and 5)."""
    options: dict[str, Any] = {"seed": config.seed, "n_resamples": config.n_resamples}
    hits = one.picked == one.right
    neurons, model = one.by_query(hits[0]), one.by_query(one.chosen == one.right)
    random, chance = one.by_query(hits[1:].mean(axis=0)), one.by_query(1 / one.n_options)
    return {
        "field": field,
        "n": len(neurons),
        "prompts": len(one.query),
        "detection": one.n_detection,
        "n_neurons": one.n_neurons,
        **spread("neurons", share(neurons)),
        **spread("model", share(model)),
        "random": float(random.mean()),
        "chance": float(chance.mean()),
        **spread("beyond_model", bootstrap_paired(neurons, model, **options)),
        **spread("beyond_random", bootstrap_paired(neurons, random, **options)),
        **spread("beyond_chance", bootstrap_paired(neurons, chance, **options)),
        "p": sign_flip_test(
            neurons - random, seed=config.seed, n_permutations=config.n_permutations
        ),
        "agreement": float((one.picked[0] == one.chosen).mean()),
        "wrong": int((one.chosen != one.right).sum()),
        **_telling(one, options),
    }


def _telling(one: Predicted, options: Mapping[str, Any]) -> dict[str, Any]:
    """AUROC of "the model is right", of the field's neurons and of random ones; None if alike.

    Over several fields pairs are counted within each: margins of different neurons, each on a
    scale of its own, are not compared.
    """
    right = one.chosen == one.right
    found: dict[str, Any] = dict.fromkeys(("auroc", "auroc_low", "auroc_high", "auroc_random"))
    margin = _finite(one.margin)
    drawn: dict[str, Any] = {"groups": one.query, "strata": one.fields}
    try:
        found |= spread("auroc", auroc(margin[0], right, **drawn, **options))
    except EstimateError:  # all right or all wrong, in every field
        return found
    areas = [auroc(m, right, **drawn, n_resamples=1).value for m in margin[1:]]
    return found | {"auroc_random": float(np.mean(areas))}


def _finite(margin: np.ndarray) -> np.ndarray:
    """A question of one option has no other: the largest margin there is."""
    return np.nan_to_num(margin, posinf=np.finfo(float).max)


def _queries(field: str, one: Predicted, part: Part) -> list[dict[str, Any]]:
    hits = one.picked == one.right
    columns = {
        "neurons": one.by_query(hits[0]),
        "model": one.by_query(one.chosen == one.right),
        "random": one.by_query(hits[1:].mean(axis=0)),
        "margin": one.by_query(_finite(one.margin)[0]),
    }
    return [
        {
            "query": query,
            "field": field,
            "question": part.questions[query].question,
            "answer": part.questions[query].right,
            **{name: float(values[i]) for name, values in columns.items()},
        }
        for i, query in enumerate(dict.fromkeys(one.query))
    ]


def _figures(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {f"{PREFIX}.fields": max(0, len(records) - 1)}
    for record in records:
        field = [] if record["field"] == ALL else ["fields", record["field"]]
        start = f"{PREFIX}.{summary_key(*field)}" if field else PREFIX
        for name in ESTIMATES:
            for end in ("", "_low", "_high"):
                figures[f"{start}.{name}{end.replace('_', '.')}"] = record[f"{name}{end}"]
        for name in ("n", "random", "chance", "p_holm", "agreement", "wrong", "auroc_random"):
            figures[f"{start}.{name}"] = record[name]
    return figures


# ---- sentences


def _words(
    records: Sequence[Mapping[str, Any]],
    left_out: Mapping[str, str],
    alpha: float,
    near: bool,
) -> list[str]:
    words = []
    if records:
        words += [_accuracy_words(records, alpha), _telling_words(records)]
    else:
        words.append("No field could be predicted from its neurons.")
    if near:
        words.append(
            "The model answers near chance: what is predicted here says nothing about knowledge."
        )
    words += [f"{name} was left out: {reason}." for name, reason in left_out.items()]
    return words


def _accuracy_words(records: Sequence[Mapping[str, Any]], alpha: float) -> str:
    whole, fields = records[0], records[1:]
    sure = [r["field"] for r in fields if r["p_holm"] < alpha]
    return (
        f"The most active option is right in {whole['neurons']:.0%}"
        f"{_interval(whole, 'neurons')} of the held-out prompts (n = {whole['n']} questions); "
        "the model's own choice is in "
        f"{whole['model']:.0%}, random neurons in {whole['random']:.0%}, guessing in "
        f"{whole['chance']:.0%}. Neurons minus model: {whole['beyond_model']:+.0%}"
        f"{_interval(whole, 'beyond_model')}; minus random neurons: "
        f"{whole['beyond_random']:+.0%}{_interval(whole, 'beyond_random')}. Better than random "
        f"neurons after Holm's correction in {len(sure)} of {len(fields)} fields"
        f"{': ' + listed(sure) if sure else ''}."
    )


def _telling_words(records: Sequence[Mapping[str, Any]]) -> str:
    whole, fields = records[0], records[1:]
    if whole["auroc"] is None:
        all_right = whole["wrong"] == 0
        if not all_right and whole["wrong"] < whole["prompts"]:
            return (
                "No field has both right and wrong answers among its held-out prompts: whether "
                "neurons tell when the model is wrong cannot be seen."
            )
        return (
            f"The model answers all held-out prompts {'rightly' if all_right else 'wrongly'}: "
            "whether neurons tell when it is wrong cannot be seen."
        )
    telling = [r["field"] for r in fields if (r["auroc_low"] or 0.0) > 0.5]
    alike = [r["field"] for r in fields if r["auroc"] is None]
    text = (
        f"The neurons' margin for the model's own choice tells right answers from the "
        f"{whole['wrong']} wrong ones with an AUROC of {whole['auroc']:.2f}"
        f"{_bounds(whole)} (random neurons {whole['auroc_random']:.2f}), answers compared within "
        "their field only; field by field the interval lies above 0.5 in "
        f"{len(telling)} of {len(fields) - len(alike)}"
        f"{': ' + listed(telling) if telling else ''}."
    )
    if alike:
        text += (
            f" All held-out answers are right, or all wrong, in {listed(alike)}: no AUROC there."
        )
    return text


def _bounds(record: Mapping[str, Any]) -> str:
    low, high = record["auroc_low"], record["auroc_high"]
    return f" [{low:.2f}, {high:.2f}]" if low == low else ""


def _interval(record: Mapping[str, Any], name: str) -> str:
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    sign = "+" if name.startswith("beyond") else ""
    return f" [{low:{sign}.0%}, {high:{sign}.0%}]" if low == low else ""
