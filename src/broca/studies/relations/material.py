"""What the relation studies share: prompts in groups, responses, scores, sets of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from broca.answers import Alike
from broca.facts import Relation
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.prompts import Prompt
from broca.responses import Responses
from broca.scores import Labelling, NeuronScores
from broca.studies.relations.asking import Asking
from broca.studies.relations.config import RelationsConfig
from broca.studies.relations.forms import Tried
from broca.studies.relations.said import AnswerKinds
from broca.studies.replacing import Kind, Replaced
from broca.studies.study import Condition, Plan

HALVES = ("a", "b")


@dataclass(frozen=True)
class Material:
    """Everything the preparation made, for one model and one set of facts.

    Attributes:
        config: The settings.
        names: The relations studied, in order.
        skipped: Relation -> why it is not studied.
        notes: What a reader should know, in sentences.
        facts: Relation -> its detection facts and wordings.
        detection: Relation -> detection prompts used.
        evaluation: Relation -> evaluation prompts.
        half: Id of a detection prompt -> "a" or "b", the half its subject is in.
        responses: Responses to all detection prompts used, relation after relation.
        labels: Relation of each of these prompts.
        labellings: Relation -> its positives and negatives among them.
        scores: Relation -> average precision of every neuron.
        k: Neurons per set.
        k_table: How k was chosen: a record per size tried, () where it was given.
        sets: Relation -> its top k neurons.
        kinds: Says what was answered in a word.
        alike: Relations with objects that the correctness test cannot tell apart.
        asking: How facts are put.
        tried: The forms of asking that were tried, () where one was given.
    """

    config: RelationsConfig
    names: tuple[str, ...]
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    facts: Mapping[str, Relation]
    detection: Mapping[str, Sequence[Prompt]]
    evaluation: Mapping[str, Sequence[Prompt]]
    half: Mapping[str, str]
    responses: Responses
    labels: Sequence[str]
    labellings: Mapping[str, Labelling]
    scores: Mapping[str, NeuronScores]
    k: int
    k_table: Sequence[Mapping[str, float]]
    sets: Mapping[str, NeuronSet]
    kinds: AnswerKinds
    asking: Asking
    tried: Sequence[Tried] = ()
    alike: tuple[Alike, ...] = ()

    @property
    def index(self) -> NeuronIndex:
        """All neurons that were scored."""
        return self.responses.index

    def plan(
        self, groups: Mapping[str, Sequence[Prompt]], extra: Mapping[str, Any] | None = None
    ) -> Plan:
        """An empty plan over groups of prompts, by the settings."""
        described = self.kinds.kind
        return Plan(groups, describe=described, extra=extra or {}, replacement=self.replacement)

    @cached_property
    def replacement(self) -> Replaced | None:
        """What is put in the place of neurons that are switched off; None for zero."""
        return self.replaced_by(self.config.replacement)

    def replaced_by(self, kind: Kind) -> Replaced | None:
        """The same of a kind."""
        if kind == "zero":
            return None
        return Replaced(kind, self.responses, self.labels, self.config.seed)

    @cached_property
    def activity(self) -> np.ndarray:
        """Mean |response| of every neuron to the detection prompts, [neuron]."""
        return self.responses.means(absolute=True)

    def as_active(self, relation: str, seed: int) -> NeuronSet:
        """A random set outside a relation's set, matched by activity in each site and layer."""
        number = self.config.seed + seed
        drawn = self.sets[relation].active_random(self.index, self.activity, number)
        return drawn.take(slice(None), name=f"{relation}.active-{number}")

    @property
    def groups(self) -> dict[str, Sequence[Prompt]]:
        """Prompts by group: `evaluation/R`, and `detection/R/a`, `detection/R/b` (checked)."""
        checked = checked_groups(self.detection, self.half, self.config.n_checked)
        return {**{evaluation_group(n): self.evaluation[n] for n in self.names}, **checked}

    def matched(self, relation: str, seed: int) -> NeuronSet:
        """A random set outside a relation's set, with the same count per site and layer."""
        return matched_set(self.sets[relation], relation, self.config.seed + seed)

    def matched_off(
        self, plan: Plan, relation: str, groups: Sequence[str], n: int
    ) -> list[Condition]:
        """So many matched random sets of a relation off on groups of prompts."""
        return [
            condition
            for seed in range(n)
            for condition in plan.switch_off(
                self.matched(relation, seed), groups, control="matched", seed=seed
            )
        ]

    def uniform(self, seed: int, k: int | None = None) -> NeuronSet:
        """A random set of all neurons, of the relations' size by default."""
        k = self.k if k is None else k
        number = self.config.seed + seed
        return uniform_random(self.index, k, number, name=f"uniform-{k}.{number}")

    def rows_of(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Rows of the responses that belong to prompts."""
        row = {prompt: number for number, prompt in enumerate(self.responses.prompt_ids)}
        return np.array([row[prompt.id] for prompt in prompts], dtype=int)


def left_out(material: Material) -> list[dict[str, str]]:
    """The relations that are not studied, a record each with the reason."""
    return [{"relation": name, "reason": why} for name, why in material.skipped.items()]


def matched_set(neurons: NeuronSet, name: str, seed: int) -> NeuronSet:
    """A matched random set under a name that can be a file's."""
    drawn = neurons.matched_random(seed)
    return drawn.take(slice(None), name=f"{name}.matched-{seed}")


def evaluation_group(relation: str) -> str:
    """Name of the group of a relation's evaluation prompts."""
    return f"evaluation/{relation}"


def detection_groups(relation: str) -> list[str]:
    """Names of the two groups of a relation's checked detection prompts."""
    return [f"detection/{relation}/{half}" for half in HALVES]


def checked_groups(
    detection: Mapping[str, Sequence[Prompt]], half: Mapping[str, str], n_checked: int
) -> dict[str, Sequence[Prompt]]:
    """The detection prompts asked under interventions, at most half of them from each half."""
    groups: dict[str, Sequence[Prompt]] = {}
    for name, prompts in detection.items():
        for group, letter in zip(detection_groups(name), HALVES, strict=True):
            members = [p for p in prompts if half[p.id] == letter]
            groups[group] = tuple(members[: max(1, n_checked // 2)])
    return groups
