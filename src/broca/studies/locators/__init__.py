"""Locator studies: what every way to give neurons a number is worth (METHODS §8).

Every study stands in a file of its name and is found by it (`broca.studies.registry`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from broca.facts import load_relations
from broca.facts.shipped import facts_for
from broca.prompts.forms import check_shots
from broca.studies.locators.config import LocatorsConfig
from broca.studies.locators.material import KeepingBench, Material, prepare
from broca.studies.registry import find_studies
from broca.studies.study import Findings

__all__ = ["FAMILY", "LocatorsConfig", "Material", "prepare"]


class Locators:
    """The family of locator studies."""

    config = LocatorsConfig

    @cached_property
    def studies(self) -> Mapping[str, Any]:
        """All of them by name."""
        return find_studies(__name__, __path__)

    def check(self, config: LocatorsConfig, studies: Sequence[Any], *, embedded: bool) -> None:
        """Refuse facts that cannot be used, and demonstrations that nothing shows.

        Raises:
            FactsError: They cannot be read, or lack a relation.
            PromptError: A number of demonstrations is given for a form without any.
        """
        check_shots([config.form or ("question" if embedded else "few-shot")], config.shots)
        load_relations(
            facts_for(config.facts, embedded=embedded),
            language=config.language,
            relations=config.relations or None,
        )

    def prepare(self, config: LocatorsConfig, bench: KeepingBench) -> Material:
        """See :func:`broca.studies.locators.material.prepare`."""
        embedded = bench.model.is_embedded
        form = config.form or ("question" if embedded else "few-shot")
        facts = facts_for(config.facts, embedded=embedded)
        return prepare(replace(config, facts=facts, form=form), bench)

    def introduce(self, material: Material) -> Mapping[str, Findings]:
        """Nothing: agreement tells how many prompts are known."""
        return {}


FAMILY = Locators()
