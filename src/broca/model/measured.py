"""What is measured of a model once, on random tokens, and recalled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch

from broca.model.language_model import LanguageModel

Found = TypeVar("Found")


def measured_once(measure: Callable[[LanguageModel], Found]) -> Callable[[LanguageModel], Found]:
    """Recall what a function finds of a model while the model lives.

    It is measured anew for another dtype or another implementation of attention.
    """
    known: WeakKeyDictionary[LanguageModel, dict[tuple, Found]] = WeakKeyDictionary()

    @functools.wraps(measure)
    def recalled(model: LanguageModel) -> Found:
        key = (model.dtype, str(getattr(model.config, "_attn_implementation", "")))
        found = known.setdefault(model, {})
        if key not in found:
            found[key] = measure(model)
        return found[key]

    return recalled


def random_tokens(model: LanguageModel, lengths: tuple[int, ...]) -> list[list[int]]:
    """Random token ids, always the same: a list per length, cut to the model's context."""
    size = model.module.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    longest = model.max_tokens or max(lengths)
    return [
        torch.randint(size, (min(length, longest),), generator=generator).tolist()
        for length in lengths
    ]
