"""Every causal type that transformers knows, built tiny: the material of ``inspect --table``."""

from broca.model.families.build import build_tiny, causal_types, move_parameters
from broca.model.families.known import KNOWN
from broca.model.families.survey import FamilyRow, as_markdown, survey

__all__ = [
    "KNOWN",
    "FamilyRow",
    "as_markdown",
    "build_tiny",
    "causal_types",
    "move_parameters",
    "survey",
]
