"""What a run asks of the place where it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    ) -> Iterator[tuple[Item, Result]]:
        """Yield every item with its result, as soon as it is there.

        Args:
            function: What to do with an item. It may hold a model: an engine whose workers run
                elsewhere sends it there once.
            items: The work.
            description: What the progress bar says.
            weights: How much work each item is, for the time left; equal if left out.
        """
        ...
