"""How the command line is called in tests, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable

Broca = Callable[..., tuple[int, str, str]]
"""Runs a command: exit code, standard output, standard error."""


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    """The mistake was told in words."""
    code, _, err = outcome
    assert code == 2, err
    assert "Traceback" not in err
    text = " ".join(err.split())
    for word in words:
        assert word in text, text
