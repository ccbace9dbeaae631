"""Every causal type that transformers knows, built tiny: the material of ``inspect --table``."""

from broca.model.families.build import build_tiny, causal_types, move_parameters
from broca.model.families.known import KNOWN

__all__ = ["KNOWN", "build_tiny", "causal_types", "move_parameters"]
