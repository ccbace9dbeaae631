"""Whether a model is the embedded one, whatever its weights and its folder are."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


def has_embedded_vocabulary(tokenizer: Any) -> bool:
    """Whether a tokenizer is that of the embedded model: nothing else has its vocabulary."""
    known = _vocabulary()
    if len(tokenizer) < len(known):
        return False
    vocabulary = tokenizer.get_vocab()
    return all(vocabulary.get(token) == number for token, number in known.items())


@cache
def _vocabulary() -> dict[str, int]:
    path = resources.files("broca") / "atlas" / "tokenizer.json"
    return json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
