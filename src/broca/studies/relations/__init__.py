"""Relation studies: which neurons serve a relation, whatever the entities (METHODS §2).

Every study stands in a file of its name and is found by it (`broca.studies.registry`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from broca.studies.registry import find_studies
from broca.studies.relations import forms
from broca.studies.relations.config import RelationsConfig
from broca.studies.relations.material import Material
from broca.studies.relations.needs import check_needs
from broca.studies.relations.preparation import prepare
from broca.studies.study import Bench, Findings, Study

__all__ = ["FAMILY", "Material", "RelationsConfig", "prepare"]


class Relations:
    """The family of relation studies."""

    config = RelationsConfig

    @cached_property
    def studies(self) -> Mapping[str, Study]:
        """All of them by name."""
        return find_studies(__name__, __path__)

    def check(self, config: RelationsConfig, studies: Sequence[Study], *, embedded: bool) -> None:
        """See :func:`broca.studies.relations.needs.check_needs`."""
        check_needs(config, studies, embedded=embedded)

    def prepare(self, config: RelationsConfig, bench: Bench) -> Material:
        """See :func:`broca.studies.relations.preparation.prepare`."""
        return prepare(config, bench)

    def introduce(self, material: Material) -> Mapping[str, Findings]:
        """In which form the facts were asked, and how other forms did."""
        example = material.detection[material.names[0]][0]
        return {forms.STUDY: forms.introduce(material.asking, material.tried, example)}


FAMILY = Relations()
