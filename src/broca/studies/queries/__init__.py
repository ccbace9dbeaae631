"""Query studies: which neurons make a model give this answer (METHODS §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from broca.facts.shipped import facts_for
from broca.studies.queries.common_neurons import CommonNeurons
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect import QueryEffect
from broca.studies.queries.embedding import Embedding
from broca.studies.queries.find import FindNeurons
from broca.studies.queries.flips import QueryFlips
from broca.studies.queries.free import ProxyAgainstFreeForm
from broca.studies.queries.localisation import Localisation
from broca.studies.queries.material import Material, Part, QueryBench
from broca.studies.queries.needs import check_needs
from broca.studies.queries.overlap import Overlap
from broca.studies.queries.parity import PublishedClusters
from broca.studies.queries.prediction import NeuronPrediction
from broca.studies.study import Findings

__all__ = ["FAMILY", "Material", "Part", "QueriesConfig", "QueryBench"]

_STUDIES: tuple[Any, ...] = (
    FindNeurons(),
    QueryEffect("queries.effect", "field", "queries"),
    QueryEffect("queries.effect.letters", "field", "queries.letters", "letters"),
    QueryEffect("queries.languages", "language", "queries.languages"),
    Localisation("queries.localisation", "field", "queries.localisation"),
    Localisation("queries.localisation.languages", "language", "queries.localisation.languages"),
    Overlap("queries.overlap", "field", "queries.overlap"),
    Overlap("queries.overlap.languages", "language", "queries.overlap.languages"),
    Embedding("queries.embedding", "field", "queries.embedding"),
    Embedding("queries.embedding.languages", "language", "queries.embedding.languages"),
    CommonNeurons(),
    QueryFlips("queries.flips", "field", "queries.flips"),
    QueryFlips("queries.flips.languages", "language", "queries.flips.languages"),
    NeuronPrediction(),
    ProxyAgainstFreeForm(),
    PublishedClusters(),
)


class Queries:
    """The family of query studies."""

    config = QueriesConfig
    studies: Mapping[str, Any] = {study.name: study for study in _STUDIES}

    def check(self, config: QueriesConfig, studies: Sequence[Any], *, embedded: bool) -> None:
        """See :func:`broca.studies.queries.needs.check_needs`."""
        check_needs(config, studies, embedded=embedded)

    def prepare(self, config: QueriesConfig, bench: Any) -> Material:
        """The material, which each study fills as it needs it."""
        questions = facts_for(config.questions, embedded=bench.model.is_embedded)
        return Material(replace(config, questions=questions))

    def introduce(self, material: Material) -> Mapping[str, Findings]:
        """Nothing: each study asks its own questions."""
        return {}


FAMILY = Queries()
