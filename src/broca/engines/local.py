"""Compute everything in this process, one item after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broca.engines.engine import Engine, Work
from broca.engines.memory import BatchLimit
from broca.progress import track


class LocalEngine(Engine):
    """The engine of a single machine: torch itself uses its cores or its GPU.

    Results come in the order of the items.
    """

    def __init__(self) -> None:
        self._limit = BatchLimit()

    def _compute(self, work: Work) -> Iterator[tuple[Any, Any]]:
        for item in track(work.items, work.description, weights=work.weights):
            yield item, self._limit.compute(work.function, item)
