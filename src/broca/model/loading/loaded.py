"""What loading gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Loaded:
    """A model and its tokenizer.

    Attributes:
        module: A causal language model of transformers, in evaluation mode.
        tokenizer: Its tokenizer.
        notes: What was done to the weights on the way, a sentence each.
    """

    module: nn.Module
    tokenizer: Any
    notes: tuple[str, ...] = ()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
