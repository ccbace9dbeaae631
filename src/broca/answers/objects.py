"""The objects of a prompt's relation as tokens: what a right answer must be told apart from.

Tokenising every object behind every prompt would cost more than asking does. What an object's
tokens are depends on the last characters before it alone, so they are read behind those, once
for all prompts that end alike. Only objects that begin as a right answer does are looked at.
"""

from __future__ import annotations

import unicodedata

from broca.answers.tokens import BORDERS, answer_tokens
from broca.model import LanguageModel
from broca.prompts import Prompt

_ENDING = 8  # characters of the prompt before the object

Tokens = tuple[int, ...]


class ObjectTokens:
    """Tokens of objects behind the ends of prompts.

    Args:
        model: Whose tokens.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._known: dict[tuple[str, str], tuple[Tokens, ...]] = {}

    def of(self, text: str, object_: str) -> tuple[Tokens, ...]:
        """Its tokens behind a text, with a space and without."""
        key = (text[-_ENDING:], object_)
        if key not in self._known:
            found = (answer_tokens(self._model, *key, border) for border in BORDERS)
            self._known[key] = tuple(dict.fromkeys(tokens for tokens in found if tokens))
        return self._known[key]

    def rivals(self, prompt: Prompt) -> dict[str, tuple[Tokens, ...]]:
        """Wrong objects of the prompt's relation that begin as one of its answers does."""
        starts = {_start(answer) for answer in prompt.answers}
        return {
            one: self.of(prompt.text, one)
            for one in prompt.objects
            if one not in prompt.answers and _start(one) in starts
        }


def _start(text: str) -> int:
    """The first byte of a text, whatever its case: texts that share none share no token."""
    return unicodedata.normalize("NFKC", text.strip()).casefold().encode("utf-8", "replace")[0]
