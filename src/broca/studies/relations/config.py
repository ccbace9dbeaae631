"""The settings all relation studies share; their names are those of recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from broca.errors import RecipeError
from broca.studies.relations.settings import StudySettings


@dataclass(frozen=True)
class RelationsConfig(StudySettings):
    """How facts become prompts, and prompts relation neurons (METHODS §2).

    Attributes:
        facts: "atlas", or a folder or file that `broca.load_relations` reads.
        templates: TOML file of wordings that take the place of the facts' own.
        relations: Only these; all by default.
        language: Language of objects and wordings.
        template_set: Wordings with which neurons are found and facts are asked.
        control_template_set: Wordings of the template control.
        n_evaluation: Evaluation facts per relation; the others are detection facts.
        n_detection: Detection facts per relation at most; all by default.
        n_checked: Detection prompts per relation that are asked again under interventions, half
            of them from each half of the subjects.
        detection_filter: "correct": only detection prompts that the model answers rightly are
            used; "none": all, for models that know nothing.
        min_detection: A relation with fewer detection prompts left is skipped.
        sites: Where neurons are looked for. Models without a gate have no site "gate".
        pooling: How responses are pooled over tokens; see `broca.record_responses`.
        negatives: Negative prompts per positive one.
        k: Neurons per relation: a number, a share of all neurons (below 1), or "auto": one
            number for all relations, chosen on detection prompts (`selection.py`).
        k_ladder: Shares of all neurons among which "auto" chooses.
        k_other_weight: What harm to other relations counts beside an own drop, to choose k.
        n_spot: Prompts of every other relation that each set is tried on to choose k.
        n_uniform: Uniformly random sets.
        n_matched: Random sets per relation with the same count per site and layer.
        n_shuffled: Shuffles of the labels.
        seed: Of everything that is drawn.
        n_permutations: Sign patterns of the permutation tests.
        n_resamples: Resamples of the bootstrap.
        alpha: Level of significance after Holm's correction.
        batch_size: Rows per pass.

    Raises:
        RecipeError: A number is out of its range.
    """

    facts: str = "atlas"
    templates: str | None = None
    relations: tuple[str, ...] | None = None
    language: str = "en"
    template_set: str = "finding"
    control_template_set: str = "robustness"
    n_evaluation: int = 50
    n_detection: int | None = None
    n_checked: int = 50
    detection_filter: Literal["correct", "none"] = "correct"
    min_detection: int = 10
    sites: tuple[str, ...] = ("gate", "up", "down")
    pooling: str = "mean"
    negatives: float = 4.0
    k: int | float | Literal["auto"] = "auto"
    k_ladder: tuple[float, ...] = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
    k_other_weight: float = 1.0
    n_spot: int = 5
    n_uniform: int = 10
    n_matched: int = 10
    n_shuffled: int = 3
    seed: int = 0
    n_permutations: int = 10_000
    n_resamples: int = 2000
    alpha: float = 0.05
    batch_size: int = 64

    def __post_init__(self) -> None:
        self.check()
        for name in ("n_evaluation", "n_checked", "n_matched", "batch_size", "n_spot"):
            _at_least(name, getattr(self, name), 1)
        for name in ("n_uniform", "n_shuffled"):
            _at_least(name, getattr(self, name), 0)
        _at_least("min_detection", self.min_detection, 2)
        if self.n_detection is not None:
            _at_least("n_detection", self.n_detection, 2)
        if self.negatives <= 0:
            raise RecipeError("the setting 'negatives' must be above 0", f"{self.negatives}")
        if self.k != "auto" and not (self.k >= 1 or 0 < self.k < 1):
            raise RecipeError(
                "the setting 'k' must be above 0",
                f"k = {self.k}",
                "Give a number of neurons, a share below 1, or 'auto'",
            )
        if not self.k_ladder or not all(0 < share < 1 for share in self.k_ladder):
            raise RecipeError("the shares of 'k_ladder' lie between 0 and 1", str(self.k_ladder))


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise RecipeError(f"the setting {name!r} must be at least {least}", f"{name} = {value}")


def number_of_neurons(k: int | float, n_neurons: int) -> int:
    """`k` as a number of neurons; a share below 1 is rounded, and at least 1.

    Raises:
        RecipeError: If there are not that many neurons.
    """
    number = max(1, round(k * n_neurons)) if k < 1 else math.floor(k)
    if number > n_neurons:
        raise RecipeError(
            f"the top {number} of {n_neurons} neurons do not exist",
            f"k = {k}",
            f"Choose k between 1 and {n_neurons}, or a share below 1",
        )
    return number
