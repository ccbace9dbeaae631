"""Interventions of blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from broca.interventions import Intervention, intervene
from broca.model import LanguageModel


def active(
    model: LanguageModel, blocks: Sequence[tuple[int, Intervention | None]], **where: Any
) -> AbstractContextManager[None]:
    """The interventions of blocks of rows; nothing where none of them has one."""
    touched = any(change is not None for _, change in blocks)
    return intervene(model, blocks=blocks, **where) if touched else nullcontext()
