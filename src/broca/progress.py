"""Progress bars with the time left, for whatever takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

_showing: ContextVar[bool] = ContextVar("showing", default=False)


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    weights: Sequence[int] | None = None,
) -> Iterator[T]:
    """Yield the items and show on standard error how many are done and how long the rest takes.

    Nothing is drawn where standard error is not a terminal, nor inside another bar: the outer
    one knows better how long everything takes.

    Args:
        items: What to go through.
        description: What is being done.
        total: How many items there are, if they cannot tell themselves.
        weights: How much work each item is; the bar then counts work, not items.
    """
    if weights is not None:
        total = sum(weights)
    elif total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    console = Console(stderr=True)
    if not console.is_terminal or _showing.get():
        yield from items
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    _showing.set(True)
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(description, total=total)
            for number, item in enumerate(items):
                yield item
                progress.advance(task, weights[number] if weights is not None else 1)
    finally:
        _showing.set(False)
