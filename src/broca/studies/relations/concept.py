"""Relation or concept: are relation neurons merely neurons of what the subjects are?

Claim: neurons of a relation are not those of its subjects' concept (person, company, …).
arXiv 2502.17355; METHODS §2, study 8.

1. Concept neurons: average precision on neutral sentences about subjects (what any thing can do or
   have, the same predicates over all concepts), those of one concept against those of the others.
   Top k, as for relations.
2. Overlap of every relation's set with every concept's set, beside chance.
3. The set of every concept off on every relation's evaluation prompts; and the relation's own set
   without the neurons it shares with its concept: what remains is the relation's.

What differs from the paper: chance, interventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.scores import Labelling
from broca.store import summary_key
from broca.studies.relations.figures import NAN, log_p_drop, mean, means, percent
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.relations.texts import concept_of, load_prose
from broca.studies.study import Bench, Findings, Plan, Results


class Concept:
    """Relation sets beside sets for the concepts of subjects."""

    name = "relations.concept"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Find concept neurons in prose; switch them, and what is left of relations, off."""
        prompts, concepts = prose_prompts(load_prose(material.config.prose))
        sets = concept_sets(material, bench, prompts, concepts)
        cells: dict[tuple[str, str], Any] = {}
        extra = {"sets": sets, "cells": cells}
        plan = material.plan(
            material.groups,
            extra=extra,
        )
        for name in material.names:
            group = [evaluation_group(name)]
            cells[name, "own"] = plan.switch_off(material.sets[name], group)[0]
            for concept, neurons in sets.items():
                cells[name, f"concept/{concept}"] = plan.switch_off(neurons, group)[0]
            own = sets.get(concept_of(material.facts[name].concept))
            rest = material.sets[name] - own if own is not None else None
            if rest is not None and 0 < len(rest) < len(material.sets[name]):
                rest = rest.take(slice(None), name=f"{name}.without-concept")
                cells[name, "rest"] = plan.switch_off(rest, group)[0]
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Overlaps, and drops with concept sets off."""
        sets = results.extra["sets"]
        pairs = [
            _pair(material, results, name, concept, neurons)
            for name in material.names
            for concept, neurons in sets.items()
        ]
        records = [_record(material, results, pairs, name) for name in material.names]
        figures = _figures(material, records)
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "pairs": pairs, "relations": records},
            words=_words(material, records, figures),
        )


def prose_prompts(prose: Sequence[dict[str, str]]) -> tuple[list[Prompt], list[str]]:
    """Sentences as prompts without answers, and their concepts."""
    prompts = []
    for number, record in enumerate(prose):
        start = record["text"].find(record["subject"])
        span = (start, start + len(record["subject"])) if start >= 0 else None
        prompts.append(
            Prompt(
                id=f"prose/{number}",
                text=record["text"],
                answers=(),
                subject=record["subject"],
                field=record["concept"],
                template=record["predicate"],
                role="prose",
                subject_span=span,
            )
        )
    return prompts, [record["concept"] for record in prose]


def concept_sets(
    material: Material, bench: Bench, prompts: Sequence[Prompt], concepts: Sequence[str]
) -> dict[str, NeuronSet]:
    """Concept -> its top k neurons."""
    responses = bench.record(prompts, material.index.sites, material.config.pooling)
    labels = np.array(concepts, dtype=object)
    everyone = np.ones(len(labels), bool)
    labellings = {
        concept: Labelling(labels == concept, everyone) for concept in dict.fromkeys(concepts)
    }
    scores = bench.score(responses, labellings)
    return {c: s.top(material.k, name=f"concept-{c}") for c, s in scores.items()}


def _pair(
    material: Material, results: Results, name: str, concept: str, neurons: NeuronSet
) -> dict[str, Any]:
    shared = material.sets[name].overlap(neurons)
    outcomes = results[results.extra["cells"][name, f"concept/{concept}"]]
    return {
        "relation": name,
        "concept": concept,
        "own": concept == concept_of(material.facts[name].concept),
        "count": shared.count,
        "of_smaller": shared.of_smaller,
        "chance": material.k / len(material.index),
        "drop": outcomes.drop,
        "log_p_drop": log_p_drop(outcomes),
    }


def _record(
    material: Material, results: Results, pairs: Sequence[dict[str, Any]], name: str
) -> dict[str, Any]:
    cells = results.extra["cells"]
    mine = [pair for pair in pairs if pair["relation"] == name]
    own = [pair for pair in mine if pair["own"]]
    rest = results[cells[name, "rest"]] if (name, "rest") in cells else None
    drop = results[cells[name, "own"]].drop
    apart = bool(own) and own[0]["count"] == 0  # nothing shared: all of the set remains
    return {
        "relation": name,
        "concept": own[0]["concept"] if own else "",
        "shared_own": own[0]["of_smaller"] if own else NAN,
        "shared_others": mean(pair["of_smaller"] for pair in mine if not pair["own"]),
        "drop": drop,
        "drop_own_concept": own[0]["drop"] if own else NAN,
        "drop_other_concepts": mean(pair["drop"] for pair in mine if not pair["own"]),
        "drop_without_concept": rest.drop if rest is not None else drop if apart else NAN,
    }


def _figures(
    material: Material, records: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    keys = (
        *("shared_own", "shared_others", "drop", "drop_own_concept", "drop_other_concepts"),
        "drop_without_concept",
    )
    figures: dict[str, float | int | None] = {
        f"concept.{key}": value for key, value in means(records, *keys).items()
    }
    figures["concept.chance"] = material.k / len(material.index)
    for record in records:
        figures[summary_key("concept", record["relation"], "shared_own")] = record["shared_own"]
    return figures


def _words(
    material: Material, records: Sequence[dict[str, Any]], figures: dict[str, Any]
) -> list[str]:
    known = [record for record in records if record["concept"]]
    words = []
    if known:
        words.append(
            f"A relation's set shares {figures['concept.shared_own']:.1%} of its neurons with the "
            f"set of its subjects' concept, {figures['concept.shared_others']:.1%} with those of "
            f"other concepts (chance {figures['concept.chance']:.1%})."
        )
        words.append(
            f"Its own neurons off cost {percent(figures['concept.drop'])}, those of its concept "
            f"{percent(figures['concept.drop_own_concept'])}, of other concepts "
            f"{percent(figures['concept.drop_other_concepts'])}; its own without those of the "
            f"concept {percent(figures['concept.drop_without_concept'])}."
        )
    without = [record["relation"] for record in records if not record["concept"]]
    if without:
        words.append(f"The prose has no sentences about the subjects of {', '.join(without)}.")
    return words


STUDIES = (Concept(),)
