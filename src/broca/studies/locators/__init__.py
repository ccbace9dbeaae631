"""Locator studies: what every way to give neurons a number is worth (METHODS §8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.studies.locators.agreement import Agreement
from broca.studies.locators.config import LocatorsConfig
from broca.studies.locators.deletion import Deletion
from broca.studies.locators.injection import InjectionStudy
from broca.studies.locators.joint import Joint
from broca.studies.locators.material import KeepingBench, Material, prepare
from broca.studies.locators.planted import Planted

__all__ = ["FAMILY", "LocatorsConfig", "Material", "prepare"]

_STUDIES = (Agreement(), Joint(), InjectionStudy(), Deletion(), Planted())


class Locators:
    """The family of locator studies."""

    config = LocatorsConfig
    studies: Mapping[str, Any] = {study.name: study for study in _STUDIES}

    def prepare(self, config: LocatorsConfig, bench: KeepingBench) -> Material:
        """See :func:`broca.studies.locators.material.prepare`."""
        return prepare(config, bench)


FAMILY = Locators()
