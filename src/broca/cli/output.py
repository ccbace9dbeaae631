"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from broca.errors import BrocaError

WIDE = 160  # columns of tables that go into files and pipes


def say(text: str) -> None:
    """A line about what happens, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text))


def show(item: object) -> None:
    """A result, on standard output: text, or anything rich can draw."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=WIDE)
    console.print(Text(item) if isinstance(item, str) else item)


def complain(error: BrocaError) -> None:
    """What was wrong, where, and how to mend it."""
    say(f"Error: {error}")
