"""Settings of single relation studies; they stand in a recipe beside those all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from broca.errors import RecipeError

LANGUAGES = ("de", "es", "fr", "zh", "ja")
TEMPLATE_SETS = ("robustness", "held_out")
SITE_GROUPS = ("gate", "up", "down", "hidden", "attention", "all")
POOLINGS = ("mean", "mean-no-bos", "last", "subject-last")


@dataclass(frozen=True)
class StudySettings:
    """What single studies need beside the facts, the prompts and the relation neurons.

    Attributes:
        ladder: Numbers of neurons (or shares of all, below 1) for cumulativity; "auto": the
            paper's numbers for models as large as the paper's, a geometric ladder else.
        ladder_rungs: Rungs of the geometric ladder.
        n_other: Evaluation prompts of every other relation under the ladder, the sites and the
            poolings, where the own relation is what counts.
        n_interference_controls: Matched random sets per relation that are switched off for all
            other relations.
        languages: Languages other than `language` in which neurons are found and facts asked.
        other_templates: Sets of wordings in which evaluation facts are asked as well.
        n_template_controls: Matched random sets per relation in other wordings and languages.
        ablated_sites: Sites within which the top k are taken; "attention": q, k, v and o, "all":
            everything but hidden, which switches the same units as gate and up.
        poolings: Ways to pool responses that are compared.
        carriers: JSONL of unrelated sentences (kind, text with one {}), or "atlas".
        n_carriers: Carrier prompts per relation.
        prose: JSONL of neutral sentences (concept, subject, predicate, text), or "atlas".
        frequencies: CSV with the columns id and exposures (or frequency, or count), or "auto":
            what the facts themselves say.

    Raises:
        RecipeError: A number or a name that cannot be.
    """

    ladder: tuple[int | float, ...] | Literal["auto"] = "auto"
    ladder_rungs: int = 9
    n_other: int = 10
    n_interference_controls: int = 1
    languages: tuple[str, ...] = LANGUAGES
    other_templates: tuple[str, ...] = TEMPLATE_SETS
    n_template_controls: int = 2
    ablated_sites: tuple[str, ...] = SITE_GROUPS
    poolings: tuple[str, ...] = POOLINGS
    carriers: str = "atlas"
    n_carriers: int = 50
    prose: str = "atlas"
    frequencies: str = "auto"

    def check(self) -> None:
        """Refuse what no study could use; see the class."""
        if self.ladder != "auto" and not all(step > 0 for step in self.ladder):
            raise RecipeError("the numbers of 'ladder' must be above 0", str(self.ladder))
        if self.ladder != "auto" and len(self.ladder) < 2:
            raise RecipeError("a 'ladder' has at least two numbers", str(self.ladder))
        least = {
            "ladder_rungs": 2,
            "n_other": 1,
            "n_interference_controls": 1,
            "n_template_controls": 1,
            "n_carriers": 1,
        }
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise RecipeError(
                    f"the setting {name!r} must be at least {lowest}",
                    f"{name} = {getattr(self, name)}",
                )
        for name, known in (("ablated_sites", SITE_GROUPS), ("poolings", POOLINGS)):
            unknown = [item for item in getattr(self, name) if item not in known]
            if unknown:
                raise RecipeError(
                    f"{unknown[0]!r} is none of the {name}", mend=f"Known: {', '.join(known)}"
                )
