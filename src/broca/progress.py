"""Progress bars with the time left, for whatever takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Thread
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

LOG_SECONDS = 30  # between two lines of a log

_showing: ContextVar[bool] = ContextVar("showing", default=False)


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    weights: Sequence[int] | None = None,
) -> Iterator[T]:
    """Yield the items and show on standard error how many are done and how long the rest takes.

    Where standard error is not a terminal, as in the log of a batch job, a line is written every
    half minute instead. Inside another bar nothing is shown: the outer one knows better how long
    everything takes.

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
    if _showing.get():
        yield from items
        return
    console = Console(stderr=True)
    _showing.set(True)
    try:
        shown = _draw if console.is_terminal else _log
        yield from shown(console, items, description, total, weights)
    finally:
        _showing.set(False)


@contextmanager
def step(description: str) -> Iterator[None]:
    """Say what one long step does while it runs, where nothing can be counted.

    A spinner on a terminal, a line every half minute in a log, nothing inside a bar.

    Args:
        description: What is being done.
    """
    if _showing.get():
        yield
        return
    console = Console(stderr=True)
    _showing.set(True)
    try:
        with console.status(description) if console.is_terminal else _ticking(console, description):
            yield
    finally:
        _showing.set(False)


@contextmanager
def _ticking(console: Console, description: str) -> Iterator[None]:
    ended = Event()
    start = time.monotonic()

    def tick() -> None:
        while not ended.wait(LOG_SECONDS):
            seconds = time.monotonic() - start
            console.print(f"{description}: {seconds:.0f} s so far", highlight=False)

    thread = Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _draw(
    console: Console,
    items: Iterable[T],
    description: str,
    total: int | None,
    weights: Sequence[int] | None,
) -> Iterator[T]:
    """A bar on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        for number, item in enumerate(items):
            yield item
            progress.advance(task, weights[number] if weights is not None else 1)


def _log(
    console: Console,
    items: Iterable[T],
    description: str,
    total: int | None,
    weights: Sequence[int] | None,
) -> Iterator[T]:
    """A line now and then in a log."""
    start = written = time.monotonic()
    done = 0
    for number, item in enumerate(items):
        yield item
        done += weights[number] if weights is not None else 1
        now = time.monotonic()
        if now - written >= LOG_SECONDS:
            written = now
            rate = done / (now - start)
            left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
            of = "" if not total else f" of {total}"
            console.print(f"{description}: {done}{of}{left}", highlight=False)
