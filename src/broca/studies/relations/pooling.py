"""Pooling: does it matter at which tokens a neuron's response is read?

Ours; the paper takes the mean over all tokens, BOS included. With BOS in the mean, average
precision partly reads the prompt's length, and pooled template words alone can separate
relations. METHODS §2, Response.

1. For every pooling, responses are recorded anew, neurons scored with the same prompts and
   labels, and the top k taken.
2. Compared: average precision of the set, neurons shared with the default's set, drop of the own
   relation, of the others (some prompts each), and of matched random sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.errors import ScoreError
from broca.neurons import NeuronSet
from broca.store import summary_key
from broca.studies.relations.figures import (
    control_set,
    groups_with_spots,
    log_p_drop,
    mean_drop,
    means,
    other_groups,
    percent,
)
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.study import Bench, Findings, Plan, Results


class Pooling:
    """Sets found with every way of pooling."""

    name = "relations.pooling"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Own, others and matched, with the sets of every pooling."""
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        skipped: dict[str, str] = {}
        extra = {"cells": cells, "skipped": skipped}
        plan = material.plan(
            groups_with_spots(material),
            extra=extra,
        )
        for pooling in dict.fromkeys((material.config.pooling, *material.config.poolings)):
            try:
                sets = _sets(material, bench, pooling)
            except ScoreError as error:
                skipped[pooling] = error.what
                continue
            for name, neurons in sets.items():
                own = [evaluation_group(name)]
                matched = control_set(neurons, material.index, material.config.seed)
                cells[pooling, name] = {
                    "set": neurons,
                    "own": plan.switch_off(neurons, own),
                    "others": plan.switch_off(neurons, other_groups(material, name)),
                    "matched": plan.switch_off(matched, own, control="matched", seed=0),
                }
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """One record per pooling and relation, and their means."""
        cells = results.extra["cells"]
        records = [
            _record(material, results, pooling, name, c) for (pooling, name), c in cells.items()
        ]
        poolings = list(dict.fromkeys(record["pooling"] for record in records))
        table = [_pooling(records, pooling) for pooling in poolings]
        figures: dict[str, float | int | None] = {
            summary_key("pooling", record["pooling"], key): record[key]
            for record in table
            for key in ("ap", "shared", "own_drop", "other_drop", "matched_drop", "log_p_drop")
        }
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "relations": records, "poolings": table},
            words=_words(table, results.extra["skipped"]),
        )


def _sets(material: Material, bench: Bench, pooling: str) -> Mapping[str, NeuronSet]:
    if pooling == material.config.pooling:
        return material.sets
    prompts = [prompt for name in material.names for prompt in material.detection[name]]
    responses = bench.record(prompts, material.index.sites, pooling)
    scores = bench.score(responses, material.labellings)
    return {n: s.top(material.k, name=f"{n}.{pooling}") for n, s in scores.items()}


def _record(
    material: Material, results: Results, pooling: str, name: str, cell: Mapping[str, Any]
) -> dict[str, Any]:
    own, matched = results[cell["own"]], results[cell["matched"]]
    return {
        "pooling": pooling,
        "relation": name,
        "n": len(own),
        "ap": float(cell["set"].scores.mean()),
        "shared": cell["set"].overlap(material.sets[name]).of_smaller,
        "before": own.accuracy_before,
        "own_drop": own.drop,
        "other_drop": mean_drop(results, cell["others"]),
        "matched_drop": matched.drop,
        "log_p_drop": log_p_drop(own),
        "log_p_matched": log_p_drop(matched),
    }


def _pooling(records: Sequence[dict[str, Any]], pooling: str) -> dict[str, Any]:
    here = [record for record in records if record["pooling"] == pooling]
    keys = ("ap", "shared", "own_drop", "other_drop", "matched_drop", "log_p_drop", "log_p_matched")
    return {"pooling": pooling, **means(here, *keys)}


def _words(table: Sequence[dict[str, Any]], skipped: Mapping[str, str]) -> list[str]:
    listed = ", ".join(
        f"{r['pooling']} {percent(r['own_drop'])} (others {percent(r['other_drop'])}, "
        f"AP {r['ap']:.2f})"
        for r in table
    )
    words = [f"Drop of the own relation by how responses are pooled: {listed}."]
    words += [f"Pooling {name} was left out: {why}." for name, why in skipped.items()]
    return words


STUDIES = (Pooling(),)
