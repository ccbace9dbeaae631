"""Settings of single relation studies; they stand in a recipe beside those all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

from broca.settings import Count, CountFrom0, CountFrom2, Share

LANGUAGES = ("de", "es", "fr", "zh", "ja")
TEMPLATE_SETS = ("robustness", "held_out")
SiteGroup = Literal["gate", "up", "down", "hidden", "attention", "all"]
Pooling = Literal["mean", "mean-no-bos", "asked", "last", "subject-last"]
Site = Literal["gate", "up", "hidden", "down", "q", "k", "v", "o"]
SITE_GROUPS: tuple[SiteGroup, ...] = get_args(SiteGroup)


@dataclass(frozen=True)
class StudySettings:
    """What single studies need beside the facts, the prompts and the relation neurons.

    Attributes:
        ladder: Numbers of neurons (or shares of all, below 1) for cumulativity; "auto": the
            paper's numbers for models as large as the paper's, a geometric ladder else.
        ladder_rungs: Rungs of the geometric ladder.
        n_orders: Random orders of the largest set's neurons beside their own, in cumulativity.
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
    """

    ladder: Annotated[tuple[Count | Share, ...], Field(min_length=2)] | Literal["auto"] = "auto"
    ladder_rungs: CountFrom2 = 9
    n_orders: CountFrom0 = 1
    n_other: Count = 10
    n_interference_controls: Count = 1
    languages: tuple[str, ...] = LANGUAGES
    other_templates: tuple[str, ...] = TEMPLATE_SETS
    n_template_controls: Count = 2
    ablated_sites: tuple[SiteGroup, ...] = SITE_GROUPS
    poolings: tuple[Pooling, ...] = ("mean", "mean-no-bos", "last", "subject-last")
    carriers: str = "atlas"
    n_carriers: Count = 50
    prose: str = "atlas"
    frequencies: str = "auto"
