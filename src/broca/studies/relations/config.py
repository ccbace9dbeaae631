"""The settings all relation studies share; their names are those of recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from broca.answers import Match
from broca.errors import RecipeError
from broca.estimates import fewest_sets
from broca.prompts.forms import check_form
from broca.settings import (
    Count,
    CountFrom0,
    CountFrom2,
    Draws,
    NotNegative,
    Positive,
    Seed,
    Share,
    check_settings,
)
from broca.studies.relations.settings import Pooling, Site, StudySettings
from broca.studies.replacing import Kind

FEWEST_RIGHT = 5
"""Facts answered rightly below which a relation has too little to lose for a verdict."""


@dataclass(frozen=True)
class RelationsConfig(StudySettings):
    """How facts become prompts, and prompts relation neurons (METHODS §2).

    Attributes:
        facts: "lre", "atlas", a folder or file that `broca.load_relations` reads, or "auto":
            atlas's for the embedded model, LRE's for every other.
        templates: TOML file of wordings that take the place of the facts' own.
        relations: Only these, or "paper" for the twelve of the paper; all by default.
        language: Language of objects and wordings.
        template_set: Wordings with which neurons are found and facts are asked.
        control_template_set: Wordings of the template control.
        form: Form of asking; see `broca.prompts.FORMS`. "auto": the one with the most right
            answers, measured on facts kept for it alone. By default "auto", and "question" for
            the embedded model, which was trained on it.
        shots: Demonstrations of the few-shot forms.
        n_form: Detection facts per relation, at most, on which "auto" chooses the form.
        n_evaluation: Evaluation facts per relation; the others are detection facts.
        n_detection: Detection facts per relation at most; all by default.
        n_checked: Detection prompts per relation that are asked again under interventions, half
            of them from each half of the subjects.
        detection_filter: "correct": only detection prompts that the model answers rightly are
            used; "none": all, for models that know nothing.
        match: How many tokens of an answer are compared: "auto": enough to tell the objects of a
            relation apart; "prefix": two, as in the paper; "whole".
        min_detection: A relation with fewer detection prompts left is skipped.
        max_relations: Relations at most, those the model knows best: with the largest share of
            detection prompts answered rightly. Evaluation facts have no say in it.
        sites: Where neurons are looked for. Models without a gate have no site "gate".
        pooling: How responses are pooled over tokens; see `broca.record_responses`. "auto":
            "mean" in the form `question`, "asked" in every other, where demonstrations and
            markup would be in the mean.
        negatives: Negative prompts per positive one.
        k: Neurons per relation: a number, a share of all neurons (below 1), or "auto": one
            number for all relations, chosen on detection prompts (`selection.py`).
        k_ladder: Shares of all neurons among which "auto" chooses.
        k_doubling: What a doubling of k must bring, as a share of right answers lost, to choose k.
        k_other_weight: What harm to other relations counts beside an own drop, to choose k.
        n_spot: Prompts of every other relation that each set is tried on to choose k.
        n_uniform: Uniformly random sets.
        n_matched: Random sets per relation with the same count per site and layer, among which the
            own set is ranked; 19 at least, or no rank can be significant at .05.
        n_matched_whole: How many of them are asked all of the relation's prompts.
        n_null: Evaluation facts per relation that all of them are asked.
        n_active: Random sets per relation matched by activity as well, asked the same facts.
        replacement: What is put in the place of neurons that are switched off: "zero" (the
            paper), the "mean" over detection prompts, or a "resample" (`broca.studies.replacing`).
        smallest_points: Smallest effect of interest, a share of answers: below it no verdict is
            "yes".
        n_shuffled: Shuffles of the labels.
        seed: Of everything that is drawn.
        n_permutations: Sign patterns of the permutation tests.
        n_resamples: Resamples of the bootstrap.
        alpha: Level of significance after Holm's correction.
        batch_size: Rows per pass.

    Raises:
        RecipeError: A value has another type or is out of its range.
        PromptError: There is no such form.
    """

    facts: str = "auto"
    templates: str | None = None
    relations: tuple[str, ...] | Literal["paper"] | None = None
    language: str = "en"
    template_set: str = "finding"
    control_template_set: str = "robustness"
    form: str | None = None
    shots: Count = 4
    n_form: Count = 6
    n_evaluation: Count = 50
    n_detection: CountFrom2 | None = None
    n_checked: Count = 50
    detection_filter: Literal["correct", "none"] = "correct"
    match: Match = "auto"
    min_detection: CountFrom2 = 10
    max_relations: CountFrom2 | None = None
    sites: Annotated[tuple[Site, ...], Field(min_length=1)] = ("gate", "up", "down")
    pooling: Pooling | Literal["auto"] = "auto"
    negatives: Positive = 4.0
    k: Count | Share | Literal["auto"] = "auto"
    k_ladder: Annotated[tuple[Share, ...], Field(min_length=1)] = (
        0.0025,
        0.005,
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
    )
    k_doubling: NotNegative = 0.05
    k_other_weight: NotNegative = 1.0
    n_spot: Count = 5
    n_uniform: CountFrom0 = 10
    n_matched: Count = 20
    n_matched_whole: Count = 4
    n_null: Count = 20
    n_active: CountFrom0 = 20
    replacement: Kind = "zero"
    smallest_points: Share = 0.05
    n_shuffled: CountFrom0 = 3
    seed: Seed = 0
    n_permutations: Draws = 10_000
    n_resamples: Draws = 2000
    alpha: Share = 0.05
    batch_size: Count = 64

    def __post_init__(self) -> None:
        check_settings(self)
        if self.form not in (None, "auto"):
            check_form(self.form)

    def doubts(self) -> list[str]:
        """What no run with these settings can show, known before it is run."""
        needed, words = fewest_sets(self.alpha), []
        if self.n_matched < needed:
            words.append(
                f"With n_matched = {self.n_matched} no rank among matched sets can reach "
                f"p < {self.alpha:g}: at least {needed} sets are needed."
            )
        if min(self.n_evaluation, self.n_null) < FEWEST_RIGHT:
            words.append(
                f"With n_evaluation = {self.n_evaluation} and n_null = {self.n_null} no relation "
                f"can be judged: {FEWEST_RIGHT} facts answered rightly are needed."
            )
        return words


def number_of_neurons(k: int | float, n_neurons: int) -> int:
    """`k` as a number of neurons; a share below 1 is rounded, and at least 1.

    Raises:
        RecipeError: If there are not that many neurons.
    """
    number = max(1, round(k * n_neurons)) if k < 1 else int(k)
    if number > n_neurons:
        raise RecipeError(
            f"the top {number} of {n_neurons} neurons do not exist",
            f"k = {k}",
            f"Choose k between 1 and {n_neurons}, or a share below 1",
        )
    return number
