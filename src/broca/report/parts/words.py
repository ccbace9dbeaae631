"""Numbers in words."""

from __future__ import annotations

NO_FIGURE = "None of its figures for Llama-2-7B is known here, so nothing is compared."


def percent(share: float | None) -> str:
    return "an undefined share" if share is None else f"{share:.0%}"


def points(share: float) -> str:
    rounded = round(100 * share, 1) or 0.0  # no "-0.0"
    return f"{rounded:+.1f} points of accuracy".replace("-", "−").replace("+0.0", "0.0")
