"""What a run asks of the place where it is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Stored = Callable[[str], bool]


@dataclass(frozen=True)
class Work:
    """What an engine is given: see :meth:`Engine.map`.

    Attributes:
        function: What to do with an item.
        items: The work.
        description: What the progress bar says.
        weights: How much work each item is.
        names: A name for every item.
        stored: Whether the result of the item of this name is kept already; None where results
            are not shared.
    """

    function: Callable[[Any], Any]
    items: Sequence[Any]
    description: str
    weights: Sequence[int]
    names: Sequence[str]
    stored: Stored | None


class Engine(ABC):
    """A place that computes work items: this process, or the workers of a cluster.

    An engine never changes results. Items do not depend on each other, so they may be computed
    in any order by any number of workers; each is computed whole or not at all.
    """

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
        """Yield items with their results, as soon as they are there.

        Args:
            function: What to do with an item. It may hold a model, in an attribute of that name:
                an engine whose workers run elsewhere lets them use their own.
            items: The work.
            description: What the progress bar says.
            weights: How much work each item is, for the time left; equal if left out.
            names: A name for every item, the same in every process that computes it.
            stored: Whether the result of the item of this name is kept already. An engine that
                shares its work with other processes leaves out what they have stored, and ends
                when all of it is.

        Raises:
            EngineError: If an item cannot be computed where the engine computes.
        """
        shared = names is not None and stored is not None
        work = Work(
            function,
            items,
            description,
            weights or [1] * len(items),
            names or [f"item {place}" for place in range(len(items))],
            stored if shared else None,
        )
        return self._compute(work)

    @abstractmethod
    def _compute(self, work: Work) -> Iterator[tuple[Any, Any]]:
        """Yield the items of some work with their results."""
