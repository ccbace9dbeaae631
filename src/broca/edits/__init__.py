"""Editing in the weights: the same changes as interventions, and new facts, in a copy.

The pipeline: ``weights`` (value vectors changed in memory, put back bit by bit) -> ``replacement``
(which change makes a model say another object) -> ``saving`` (a checkpoint for transformers).
"""

from broca.edits.config import FactEditConfig
from broca.edits.replacement import (
    FactReplacement,
    parse_fact,
    pick_fact,
    replace_fact,
    select_fact_neurons,
)
from broca.edits.saving import save_edited
from broca.edits.weights import ValueVectors, WeightEdit, edited

__all__ = [
    "FactEditConfig",
    "FactReplacement",
    "ValueVectors",
    "WeightEdit",
    "edited",
    "parse_fact",
    "pick_fact",
    "replace_fact",
    "save_edited",
    "select_fact_neurons",
]
