"""From effects to tables, figures of the summary, and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from broca.choices import Letters
from broca.estimates import holm
from broca.scores import QuerySets
from broca.store import summary_key
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect_words import accuracy_words, convergence_words, effect_words
from broca.studies.queries.effects import Effects, compare, describe
from broca.studies.queries.material import Part, near_chance
from broca.studies.queries.published import published_notes, published_pcr
from broca.studies.study import Findings

ALL = "all"
SHOWN = 8  # neurons named per query


def effect_findings(
    config: QueriesConfig, part: Part, effects: Effects, prefix: str, by: str
) -> Findings:
    """Everything the report shows of one effect study."""
    about = part_tables(part, config)
    tables: dict[str, list[dict[str, Any]]] = {
        "effects": _effect_records(config, part, effects),
        "paired": _paired_records(config, effects),
        "probabilities": _probabilities(part, effects),
        "published": published_pcr(by),
        "published_notes": [{"note": note} for note in published_notes(by)],
        **about,
    }
    tables["queries"] = _with_effects(about["queries"], effects)
    figures = {**_effect_figures(tables, prefix), **part_figures(part, config, prefix)}
    whole = [record for record in tables["effects"] if record["field"] == ALL]
    words = [
        *accuracy_words(about["accuracy"], by, part),
        *effect_words(whole, tables["paired"], about["accuracy"][0], config.alpha, by),
        *convergence_words(about["convergence"], part),
    ]
    return Findings(figures, tables, words)


def part_tables(part: Part, config: QueriesConfig) -> dict[str, list[dict[str, Any]]]:
    """Tables that need no intervention: accuracy, neurons, layers, convergence."""
    return {
        "accuracy": _accuracy(part, config),
        "counts": _counts(part),
        "layers": layer_records(part.sets),
        "common": _common(part.sets),
        "convergence": _convergence(part),
        "queries": _queries(part),
        "letters": _letters(part),
        "about": [{"answer": part.answer}],
        "forms": [asdict(one) for one in part.tried],
        "left_out": [{"field": f, "reason": reason} for f, reason in part.left_out.items()],
    }


def part_figures(part: Part, config: QueriesConfig, prefix: str) -> dict[str, Any]:
    """Figures of the same."""
    accuracy = part.accuracy()
    counts = np.array(list(part.sets.counts().values()))
    figures: dict[str, Any] = {
        f"{prefix}.queries": len(part.questions),
        f"{prefix}.asked": len(part.screened),
        f"{prefix}.in_words": int(part.answer == "words"),
        f"{prefix}.fields": len(part.fields),
        f"{prefix}.prompts": sum(map(len, part.asked.values())),
        f"{prefix}.accuracy": accuracy.value,
        f"{prefix}.accuracy.low": accuracy.low,
        f"{prefix}.accuracy.high": accuracy.high,
        f"{prefix}.chance": part.chance(),
        f"{prefix}.shown": part.copied()[0],
        f"{prefix}.named": part.copied()[1],
        f"{prefix}.near_chance": int(near_chance(accuracy.low, part.chance())),
        f"{prefix}.neurons_per_query": float(counts.mean()),
        f"{prefix}.without_neurons": int((counts == 0).sum()),
        f"{prefix}.common_neurons": len(part.sets.common),
    }
    figures |= _convergence_figures(
        part, "attribution" if prefix == "queries" else f"{prefix}.attribution"
    )
    return figures


def _accuracy(part: Part, config: QueriesConfig) -> list[dict[str, Any]]:
    """Accuracy of the untouched model on all it was asked, all queries first, then per field."""
    records = []
    for field in (None, *dict.fromkeys(one.field for one in part.screened)):
        estimate, chance = part.accuracy(field), part.chance(field)
        kept = [q for q, one in part.questions.items() if field in (None, one.field)]
        p = [one.p for query in kept for one in part.asked[query]]
        records.append(
            {
                "field": ALL if field is None else field,
                "n": sum(field in (None, one.field) for one in part.screened),
                "kept": len(kept),
                "accuracy": estimate.value,
                "accuracy_low": estimate.low,
                "accuracy_high": estimate.high,
                "chance": chance,
                "near_chance": near_chance(estimate.low, chance),
                "mean_p": float(np.mean(p)) if p else None,
            }
        )
    return records


def _effect_records(config: QueriesConfig, part: Part, effects: Effects) -> list[dict[str, Any]]:
    options = {
        "seed": config.seed,
        "n_resamples": config.n_resamples,
        "n_permutations": config.n_permutations,
    }
    fields = np.array([part.questions[query].field for query in effects.queries], dtype=object)
    records = []
    for field in (ALL, *part.fields):
        keep = np.ones(len(fields), bool) if field == ALL else fields == field
        if not keep.any():
            continue
        here = effects.where(keep)
        records += [
            {"field": field, **describe(here, method, action, **options)}
            for method in config.methods
            for action in config.actions
        ]
    return records


def _paired_records(config: QueriesConfig, effects: Effects) -> list[dict[str, Any]]:
    records = []
    for action in config.actions:
        here = [
            compare(
                effects,
                action,
                "na-ica",
                method,
                seed=config.seed,
                n_resamples=config.n_resamples,
                n_permutations=config.n_permutations,
            )
            for method in config.methods
            if method != "na-ica"
        ]
        if here:
            for record, p in zip(here, holm([record["p"] for record in here]), strict=True):
                record["p_holm"] = float(p)
        records += here
    return records


def _probabilities(part: Part, effects: Effects) -> list[dict[str, Any]]:
    """Mean P of the right letter, untouched and with the own sets boosted or suppressed."""
    fields = np.array([part.questions[query].field for query in effects.queries], dtype=object)
    p = np.array([np.mean([one.p for one in part.asked[query]]) for query in effects.queries])
    records = []
    for field in (ALL, *part.fields):
        keep = np.ones(len(fields), bool) if field == ALL else fields == field
        if not keep.any():
            continue
        for method in effects.methods:
            record: dict[str, Any] = {"field": field, "method": method, "n": int(keep.sum())}
            record["untouched"] = float(p[keep].mean())
            for action in effects.actions:
                gain = effects.absolute[method, action, "related"][keep]
                record[action] = float((p[keep] + gain).mean())
            records.append(record)
    return records


def _counts(part: Part) -> list[dict[str, Any]]:
    """Neurons per query and coarse cluster."""
    by_method = {method: part.sets.counts(method) for method in part.sets.methods}
    return [
        {
            "query": query,
            "field": question.field,
            "cluster": len(part.attributed[query].summary.cluster),
            **{method: counts[query] for method, counts in by_method.items()},
        }
        for query, question in part.questions.items()
    ]


def layer_records(sets: QuerySets) -> list[dict[str, Any]]:
    """Neurons per layer by method, all queries together, and of the common neurons."""
    width = sets.identity.width(sets.site)
    listed = {
        method: np.concatenate([np.empty(0, np.int64), *(r.neurons for r in queries.values())])
        for method, queries in sets.rankings.items()
    }
    listed["common"] = sets.common.neurons
    return [
        {"method": method, "layer": layer, "n": int(n)}
        for method, neurons in listed.items()
        for layer, n in enumerate(np.bincount(neurons // width, minlength=sets.identity.n_layers))
    ]


def _common(sets: QuerySets) -> list[dict[str, Any]]:
    neurons = sets.common_neurons()
    return [
        {"neuron": str(neuron), "share": float(share)}
        for neuron, share in zip(neurons, neurons.scores, strict=True)
    ]


def _convergence(part: Part) -> list[dict[str, Any]]:
    """Figures of every prompt, the worst first."""
    figures = [asdict(f) for one in part.attributed.values() for f in one.prompts]
    return sorted(figures, key=lambda f: -max(f["completeness_error"], f["step_change"] / 2))


def _convergence_figures(part: Part, prefix: str) -> dict[str, Any]:
    prompts = [f for one in part.attributed.values() for f in one.prompts]
    judged = [f for f in prompts if not f.without_effect]
    share = float(np.mean([f.converged for f in judged])) if judged else float("nan")

    def worst(name: str) -> float | None:
        return max((getattr(f, name) for f in judged), default=None)

    return {
        f"{prefix}.prompts": len(prompts),
        f"{prefix}.converged_share": share,
        f"{prefix}.without_effect": len(prompts) - len(judged),
        f"{prefix}.worst_completeness_error": max(
            (f.completeness_error for f in judged), default=None
        ),
        f"{prefix}.worst_step_change": max((f.step_change for f in judged), default=None),
        f"{prefix}.median_nodes": float(np.median([f.n_steps for f in prompts])),
    }


def _queries(part: Part) -> list[dict[str, Any]]:
    records = []
    for query, question in part.questions.items():
        neurons = part.neurons(query, "na-ica")
        listed = [str(neuron) for neuron in neurons.top(min(SHOWN, len(neurons)))]
        asked = part.asked[query]
        records.append(
            {
                "query": query,
                "field": question.field,
                "language": question.language,
                "question": question.question,
                "answer": question.right,
                "right": float(np.mean([one.correct for one in asked])),
                "p": float(np.mean([one.p for one in asked])),
                "neurons": ", ".join(listed),
                "n": len(neurons),
            }
        )
    return records


def _with_effects(records: Sequence[dict[str, Any]], effects: Effects) -> list[dict[str, Any]]:
    place = {query: i for i, query in enumerate(effects.queries)}
    return [
        {
            **record,
            **{
                action: float(effects.relative["na-ica", action, "related"][place[record["query"]]])
                if record["query"] in place
                else None
                for action in effects.actions
            },
        }
        for record in records
    ]


def _letters(part: Part) -> list[dict[str, Any]]:
    """Which way letters are written: how often each was the more probable."""
    flat = [o for listed in part.asked.values() for o in listed if isinstance(o, Letters)]
    return [
        {"variant": variant, "prompts": sum(one.variant == variant for one in flat)}
        for variant in ("bare", "space")
    ]


def _effect_figures(tables: dict[str, list[dict[str, Any]]], prefix: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for record in tables["effects"]:
        field = [] if record["field"] == ALL else ["fields", record["field"]]
        start = f"{prefix}.{summary_key(*field, record['method'], record['action'])}"
        for name in ("related", "same", "unrelated", "difference", "pcr"):
            figures[f"{start}.{name}"] = record[name]
            figures[f"{start}.{name}.low"] = record[f"{name}_low"]
            figures[f"{start}.{name}.high"] = record[f"{name}_high"]
        if "p_matched" in record:
            figures[f"{start}.matched"] = record["matched"]
            figures[f"{start}.matched.low"] = record["matched_low"]
            figures[f"{start}.matched.high"] = record["matched_high"]
            figures[f"{start}.p_matched"] = record["p_matched"]
            for end in ("", "_low", "_high"):
                figures[f"{start}.beyond_matched{end.replace('_', '.')}"] = record[f"beyond{end}"]
    for record in tables["paired"]:
        start = f"{prefix}.{summary_key(record['method'], record['action'])}"
        figures[f"{start}.na-ica_beyond"] = record["gap"]
        figures[f"{start}.na-ica_beyond.low"] = record["gap_low"]
        figures[f"{start}.na-ica_beyond.high"] = record["gap_high"]
        # Another statistic: flips of signed effects of each query, not of the gap.
        figures[f"{start}.na-ica_per_query.p_holm"] = record["p_holm"]
    return figures
