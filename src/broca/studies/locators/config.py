"""The settings all locator studies share; their names are those of recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from broca.errors import RecipeError, known_names
from broca.locators import LOCATORS, find_locator
from broca.prompts.forms import check_form
from broca.settings import Count, CountFrom2, Draws, Positive, Seed, Share, check_settings

DEFAULT = tuple(name for name in LOCATORS if name not in ("ig-16", "frozen-gradient-activation"))
RELATION_LOCATORS = (
    "expertise",
    "mean-difference",
    "firing",
    "hard-concrete",
    "slimming",
    "gradient-activation",
    "random",
)


@dataclass(frozen=True)
class LocatorsConfig:
    """What locators are judged on (METHODS §8).

    Attributes:
        facts: "auto" (atlas's for atlas, LRE's for every other model), or whatever
            `broca.load_relations` reads.
        relations: Only these relations; all by default.
        language: Language of the facts.
        form: How facts are asked; see `broca.render_fact_prompts`. By default "question" for the
            embedded model, "few-shot" for every other.
        shots: Demonstrations of the few-shot forms.
        locators: Names out of `broca.locators.LOCATORS`, in the order of the tables.
        reference: The locator the others are compared with, over the same prompts.
        n_prompts: Prompts that locators are judged on; those whose answers the model knows.
        n_group: Prompts of each relation that contrasting locators take as own.
        n_others: Prompts of other relations: contrasts, and what must not be lost.
        top: Neurons of "recall@k" against exact effects.
        sizes: Numbers of neurons replaced together.
        deleted: Shares of each layer's neurons switched off in "locators.deletion".
        prefilter: Share of the neurons whose exact effect, and direct increase, is measured; all
            by default.
        n_injected: Facts put into the model, one at a time.
        injected_share: Share of all value vectors a fact is put into.
        known: Mean -log P of an answer's tokens below which an injected fact counts as known.
        recall_shares: Shares of the neurons looked at to find them.
        n_planted: Prompts into which neurons are planted.
        planted: Neurons planted per prompt.
        relation_locators: Locators that are asked for the neurons of a whole relation.
        relation_sizes: Neurons of a relation switched off together.
        n_judged: Facts of each relation that its sets are judged on.
        mask_share: Budget of learned masks, as a share of all neurons.
        mask_steps: Steps of learned masks.
        mask_rate: Their learning rate.
        injected_masks: Masks that look for injected facts: "all", at all positions and with a
            strength in place of a budget, as published; "last", as in all other studies.
        seed: Of everything that is drawn.
        n_resamples: Resamples of the bootstrap.

    Raises:
        RecipeError: A value has another type or is out of its range, a locator is unknown, or there
            is none to judge.
        PromptError: There is no such form of asking.
    """

    facts: str = "auto"
    relations: tuple[str, ...] = ()
    language: str = "en"
    form: str | None = None
    shots: Count = 4
    locators: tuple[str, ...] = DEFAULT
    reference: str = "ig"
    n_prompts: CountFrom2 = 24
    n_group: CountFrom2 = 8
    n_others: CountFrom2 = 24
    top: Count = 20
    sizes: tuple[Count, ...] = (1, 3, 10, 30, 100, 300)
    deleted: tuple[Share, ...] = (0.001, 0.005, 0.02)
    prefilter: Annotated[float, Field(gt=0, le=1)] | None = None
    n_injected: CountFrom2 = 24
    injected_share: Share = 0.01
    known: Positive = 0.05
    recall_shares: tuple[Share, ...] = (0.01, 0.02, 0.05)
    n_planted: CountFrom2 = 12
    planted: Count = 10
    relation_locators: tuple[str, ...] = RELATION_LOCATORS
    relation_sizes: tuple[Count, ...] = (3, 10, 30, 100, 300)
    n_judged: CountFrom2 = 12
    mask_share: Share = 0.01
    mask_steps: Count = 60
    mask_rate: Positive = 0.1
    injected_masks: Literal["all", "last"] = "all"
    seed: Seed = 0
    n_resamples: Draws = 2000

    def __post_init__(self) -> None:
        check_settings(self)
        if self.form is not None:
            check_form(self.form)
        for name in ("sizes", "relation_sizes"):
            if not getattr(self, name):
                raise RecipeError("there is no size to try", name, "Name one, such as 10")
        named = (*self.locators, *self.relation_locators)
        unknown = [name for name in named if name not in LOCATORS]
        if unknown:
            raise RecipeError(
                f"there is no locator {unknown[0]!r}",
                "locators",
                known_names(unknown[0], LOCATORS),
            )
        if self.reference not in self.locators:
            raise RecipeError(
                f"the reference {self.reference!r} is not among the locators",
                f"locators = {', '.join(self.locators) or 'none'}",
                f"Add it, or name one of them: reference = {next(iter(self.locators), 'ig')!r}",
            )
        if not set(self.locators) - {"exact", "random"}:
            raise RecipeError(
                "there is no locator to judge: exact effects and random numbers are what others "
                "are held against",
                f"locators = {', '.join(self.locators)}",
                "Add one, such as gradient-activation",
            )
        if "expertise" not in self.relation_locators:
            raise RecipeError(
                "the others are compared with expertise", "relation_locators", 'Add "expertise"'
            )

    def settings_of(
        self, locator: str, n_neurons: int, *, injected: bool = False
    ) -> dict[str, Any]:
        """A locator's own settings in these studies, where it looks for injected facts or not."""
        if find_locator(locator).learned:
            steps = {"n_steps": self.mask_steps, "learning_rate": self.mask_rate}
            if injected and self.injected_masks == "all":
                return {"positions": "all", **steps}
            return {"budget": max(1, round(self.mask_share * n_neurons)), **steps}
        if locator in ("exact", "direct") and self.prefilter is not None:
            return {"prefilter": self.prefilter}
        return {}
