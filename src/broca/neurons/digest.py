"""Short hashes, for the provenance of sets and recordings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any


def digest_of(items: Sequence[Any]) -> str:
    """Short hash of JSON-able values."""
    return short_hash(json.dumps(items, ensure_ascii=False, sort_keys=True, separators=(",", ":")))


def short_hash(text: str) -> str:
    """The first 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
