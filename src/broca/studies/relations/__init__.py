"""Relation studies: which neurons serve a relation, whatever the entities (METHODS §2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broca.studies.relations import forms
from broca.studies.relations.ablation import SiteAblation
from broca.studies.relations.concept import Concept
from broca.studies.relations.config import RelationsConfig
from broca.studies.relations.controls import FinderControls
from broca.studies.relations.cumulativity import Cumulativity
from broca.studies.relations.general import GeneralLanguage
from broca.studies.relations.inter import InterRelation
from broca.studies.relations.interference import Interference
from broca.studies.relations.intra import IntraRelation
from broca.studies.relations.languages import Languages
from broca.studies.relations.layers import Layers
from broca.studies.relations.material import Material
from broca.studies.relations.needs import check_needs
from broca.studies.relations.pooling import Pooling
from broca.studies.relations.preparation import prepare
from broca.studies.relations.resilience import Resilience
from broca.studies.relations.stability import Stability
from broca.studies.relations.templates import OtherTemplates
from broca.studies.relations.versatility import Versatility
from broca.studies.study import Bench, Findings, Study

__all__ = ["FAMILY", "Material", "RelationsConfig", "prepare"]

_STUDIES: tuple[Study, ...] = (
    IntraRelation(),
    InterRelation(),
    Cumulativity(),
    Versatility(),
    Interference(),
    Languages(),
    OtherTemplates(),
    Layers(),
    SiteAblation(),
    Concept(),
    GeneralLanguage(),
    Resilience(),
    FinderControls(),
    Stability(),
    Pooling(),
)


class Relations:
    """The family of relation studies."""

    config = RelationsConfig
    studies: Mapping[str, Study] = {study.name: study for study in _STUDIES}

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
