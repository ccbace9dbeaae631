"""The model under study and its two primitives."""

from broca.architectures import Layout, Part
from broca.model.blocks import Block
from broca.model.language_model import LanguageModel, TokenBatch
from broca.model.outline import Outline, outline_of

__all__ = ["Block", "LanguageModel", "Layout", "Outline", "Part", "TokenBatch", "outline_of"]
