"""Locator studies: what every way to give neurons a number is worth (METHODS §8).

Every study stands in a file of its name and is found by it (`broca.studies.registry`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from broca.studies.locators.config import LocatorsConfig
from broca.studies.locators.material import KeepingBench, Material, prepare
from broca.studies.registry import find_studies

__all__ = ["FAMILY", "LocatorsConfig", "Material", "prepare"]


class Locators:
    """The family of locator studies."""

    config = LocatorsConfig

    @cached_property
    def studies(self) -> Mapping[str, Any]:
        """All of them by name."""
        return find_studies(__name__, __path__)

    def check(self, config: LocatorsConfig, studies: Sequence[Any], *, embedded: bool) -> None:
        """Nothing: what they lack shows when prompts are made of the facts."""

    def prepare(self, config: LocatorsConfig, bench: KeepingBench) -> Material:
        """See :func:`broca.studies.locators.material.prepare`."""
        return prepare(config, bench)


FAMILY = Locators()
