"""The model under study and its two primitives."""

from broca.architectures import Layout, Part
from broca.model.blocks import Block
from broca.model.language_model import LanguageModel
from broca.model.outline import Outline, outline_of
from broca.model.reading import TokenBatch

__all__ = ["Block", "LanguageModel", "Layout", "Outline", "Part", "TokenBatch", "outline_of"]
