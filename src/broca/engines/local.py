"""Compute everything in this process, one item after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from broca.engines.engine import Item, Result, Stored
from broca.engines.memory import BatchLimit
from broca.progress import track


class LocalEngine:
    """The engine of a single machine: torch itself uses its cores or its GPU."""

    def __init__(self) -> None:
        self._limit = BatchLimit()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        description: str = "",
        weights: Sequence[int] | None = None,
        *,
        names: Sequence[str] | None = None,
        stored: Stored | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """See :meth:`broca.engines.Engine.map`; results come in the order of the items."""
        for item in track(items, description, weights=weights):
            yield item, self._limit.compute(function, item)
