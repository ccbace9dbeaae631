"""Query studies: which neurons make a model give this answer (METHODS §3).

Every study stands in a file of its name and is found by it (`broca.studies.registry`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from broca.attributions import check_attributable
from broca.errors import RecipeError
from broca.facts.shipped import facts_for
from broca.model import Outline
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.material import Material, Part, QueryBench
from broca.studies.queries.needs import check_needs
from broca.studies.registry import find_studies
from broca.studies.study import Findings

__all__ = ["FAMILY", "Material", "Part", "QueriesConfig", "QueryBench"]


class Queries:
    """The family of query studies."""

    config = QueriesConfig

    @cached_property
    def studies(self) -> Mapping[str, Any]:
        """All of them by name."""
        return find_studies(__name__, __path__)

    def check(self, config: QueriesConfig, studies: Sequence[Any], *, embedded: bool) -> None:
        """See :func:`broca.studies.queries.needs.check_needs`."""
        check_needs(config, studies, embedded=embedded)

    def prepare(self, config: QueriesConfig, bench: Any) -> Material:
        """The material, which each study fills as it needs it.

        Raises:
            RecipeError: A query is to have more neurons than the model has.
            AttributionError: The model cannot be attributed, as far as this process has its
                weights; workers say it when they attribute.
        """
        n_neurons = bench.model.identity.total(config.site)
        if config.v > n_neurons:
            raise RecipeError(
                f"{config.v:,} neurons of a query are asked for and the model has {n_neurons:,} "
                f"at site {config.site}",
                "v",
                "Ask for fewer: the paper takes 20",
            )
        if not isinstance(bench.model, Outline):
            check_attributable(
                bench.model,
                site=config.site,
                path=config.path,
                form=config.branches,
                dtype=config.attribution_dtype,
            )
        questions = facts_for(config.questions, embedded=bench.model.is_embedded)
        return Material(replace(config, questions=questions))

    def introduce(self, material: Material) -> Mapping[str, Findings]:
        """Nothing: each study asks its own questions."""
        return {}


FAMILY = Queries()
