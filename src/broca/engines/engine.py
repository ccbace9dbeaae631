"""What a run asks of the place where it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Stored = Callable[[str], bool]


class Engine(Protocol):
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
        ...
