"""Draws that depend on a seed and a name only, never on the order in which things are read."""

from __future__ import annotations

import hashlib
import random


def stable_number(seed: int, *parts: str) -> int:
    """A 64-bit number that is the same on every machine for the same seed and parts."""
    text = "\x1f".join((str(seed), *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stable_random(seed: int, *parts: str) -> random.Random:
    """A random generator for one named purpose."""
    return random.Random(stable_number(seed, *parts))
