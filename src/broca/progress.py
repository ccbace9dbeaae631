"""Progress bars with the time left, for whatever takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

T = TypeVar("T")

LOG_SECONDS = 30  # between two lines of a log
WATCH_SECONDS = 2  # between two calls of a watcher
LEAST_BAR, WORDS_BESIDE_BAR = 8, 100  # columns of a terminal; what is cut off first are the workers


@dataclass(frozen=True)
class Reached:
    """How far a piece of work has come.

    Attributes:
        description: What is being done.
        done: Work done.
        total: Work in all, None if unknown.
        seconds: Since it began.
        note: Anything else worth telling, such as how many workers are alive.
    """

    description: str
    done: int
    total: int | None
    seconds: float
    note: str = ""

    @property
    def rate(self) -> float:
        """Work per second, 0 before any is done."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds left at this rate, None while that cannot be told."""
        return (self.total - self.done) / self.rate if self.total and self.rate else None


class Advance(Protocol):
    """Tells a bar that work is done."""

    def __call__(self, work: int = 1, note: str = "") -> None: ...


Watcher = Callable[[Reached], None]

_showing: ContextVar[bool] = ContextVar("showing", default=False)
_drawing: ContextVar[Console | None] = ContextVar("drawing", default=None)
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let somebody else know how far outermost bars have come, every few seconds."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Draw nothing: somebody else shows how far things have come."""
    token = _showing.set(True)
    try:
        yield
    finally:
        _showing.reset(token)


Pulse = Callable[[int, int], None]
"""Told how much of a single long computation is done, and of how much."""

_pulse: ContextVar[Pulse | None] = ContextVar("pulse", default=None)


@contextmanager
def pulsed(told: Pulse) -> Iterator[None]:
    """Be told how far the inside of single computations has come; raising there ends them."""
    token = _pulse.set(told)
    try:
        yield
    finally:
        _pulse.reset(token)


def pulse(done: int, total: int) -> None:
    """Tell who wants to know that a part of a computation is done.

    Args:
        done: Work done so far.
        total: Work in all, as far as is known.
    """
    told = _pulse.get()
    if told is not None:
        told(done, total)


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Advance]:
    """Show on standard error how much is done and how long the rest takes.

    Where standard error is not a terminal, as in the log of a batch job, a line is written every
    half minute instead. Inside another bar nothing is shown: the outer one knows better how long
    everything takes.

    Args:
        description: What is being done.
        total: How much work there is, None if unknown.
    """
    if _showing.get():
        yield _silent
        return
    console = Console(stderr=True)
    _showing.set(True)
    try:
        with _drawn(console, description, total) if console.is_terminal else _logged(console) as on:
            yield _counted(description, total, on)
    finally:
        _showing.set(False)


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    weights: Sequence[int] | None = None,
) -> Iterator[T]:
    """Yield the items inside a :func:`progress_bar`.

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
    with progress_bar(description, total) as advance:
        for number, item in enumerate(items):
            yield item
            advance(weights[number] if weights is not None else 1)


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
    watcher = _watcher.get()
    if watcher is not None:
        watcher(Reached(description, 0, None, 0.0))
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
    with suppress(RuntimeError):  # no memory for it: nothing is said
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def tell(text: str) -> None:
    """A line on standard error about something that happened meanwhile, above a bar if there is."""
    console = _drawing.get() or Console(stderr=True)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _silent(work: int = 1, note: str = "") -> None:
    pass


def _counted(description: str, total: int | None, show: Watcher) -> Advance:
    """Counts work, shows it, and tells the watcher now and then."""
    start = time.monotonic()
    done, told = 0, start
    watcher = _watcher.get()
    if watcher is not None:  # the first piece may take long
        watcher(Reached(description, done, total, 0.0))

    def advance(work: int = 1, note: str = "") -> None:
        nonlocal done, told
        done += work
        now = time.monotonic()
        reached = Reached(description, done, total, now - start, note)
        show(reached)
        if watcher is not None and (now - told >= WATCH_SECONDS or done == total):
            told = now
            watcher(reached)

    return advance


class _LeftColumn(ProgressColumn):
    """Time left at the rate so far, counted down between two pieces of work.

    Rich's own column forgets pieces after half a minute; where each takes longer, it says nothing.
    """

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        if end is None:
            return Text("")
        left = timedelta(seconds=round(max(0.0, end - time.monotonic())))
        return Text(f"left {left}", style="progress.remaining")


@contextmanager
def _drawn(console: Console, description: str, total: int | None) -> Iterator[Watcher]:
    """A bar on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(LEAST_BAR, min(40, console.width - WORDS_BESIDE_BAR))),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        _LeftColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress, _tells_through(console):
        task = progress.add_task(description, total=total, note="", rate="", end=None)

        def show(reached: Reached) -> None:
            end = None if reached.left is None else time.monotonic() + reached.left
            rate = rate_in_words(reached.rate)
            progress.update(task, completed=reached.done, note=reached.note, rate=rate, end=end)

        yield show


@contextmanager
def _tells_through(console: Console) -> Iterator[None]:
    """Lines that are told meanwhile go through the console that draws, which keeps them apart."""
    _drawing.set(console)
    try:
        yield
    finally:
        _drawing.set(None)


@contextmanager
def _logged(console: Console) -> Iterator[Watcher]:
    """A line now and then in a log."""
    written = time.monotonic()

    def show(reached: Reached) -> None:
        nonlocal written
        now = time.monotonic()
        if now - written >= LOG_SECONDS:
            written = now
            console.print(in_words(reached), highlight=False, markup=False, soft_wrap=True)

    yield show


def in_words(reached: Reached) -> str:
    """How far work has come, as a line; of what cannot be counted, that it goes on."""
    note = f", {reached.note}" if reached.note else ""
    if not reached.done and reached.total is None:
        return f"{reached.description}{note}"
    of = "" if not reached.total else f" of {reached.total}"
    left = ""
    if reached.left:
        time_left = reached.left if reached.left < 120 else reached.left / 60
        unit = "s" if reached.left < 120 else "min"
        left = f", {rate_in_words(reached.rate)}, {time_left:.0f} {unit} left"
    return f"{reached.description}: {reached.done}{of}{left}{note}"


def rate_in_words(rate: float) -> str:
    """Work per second as a person says it: slow work by the seconds each piece takes."""
    if rate == 0:
        return ""
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
