"""Which special tokens a prompt gets: decided here, and nowhere else.

1. What the tokenizer puts before every text (BOS) stays.
2. What it puts behind every text (EOS, a separator) is left out: a model asked to go on after the
   end of a text does not go on with the text.
3. A text that begins with the special tokens itself, as chat templates write them, gets them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PROBE = "x"


@dataclass(frozen=True)
class SpecialTokens:
    """What a tokenizer adds to every text.

    Attributes:
        before: Token ids in front; prompts get them once.
        after: Token ids behind; prompts never get them.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    def kept(self, ids: Sequence[int]) -> slice:
        """Which of a tokenizer's ids of a text are the prompt's."""
        n, m = len(self.before), len(self.after)
        doubled = n > 0 and tuple(ids[: 2 * n]) == self.before * 2
        ended = m > 0 and tuple(ids[-m:]) == self.after
        return slice(n if doubled else 0, len(ids) - m if ended else len(ids))

    def described(self, tokenizer: Any) -> str:
        """The decision in words."""
        before, after = (
            " ".join(map(str, tokenizer.convert_ids_to_tokens(list(ids))))
            for ids in (self.before, self.after)
        )
        start = f"prompts begin with {before}" if before else "prompts begin without special token"
        return f"{start}; {after}, which the tokenizer appends, is left out" if after else start


def find_special_tokens(tokenizer: Any) -> SpecialTokens:
    """Measure what a tokenizer adds, by what it makes of a text with and without."""
    whole = list(tokenizer(_PROBE).input_ids)
    end = tokenizer.eos_token_id
    plain = list(tokenizer(_PROBE, add_special_tokens=False).input_ids)
    if plain[-1:] == [end]:  # appended even where special tokens are refused
        plain.pop()
    for start in range(len(whole) - len(plain) + 1):
        stop = start + len(plain)
        if plain and whole[start:stop] == plain:
            return SpecialTokens(tuple(whole[:start]), tuple(whole[stop:]))
    # the tokenizer has no token for the probe: an end token is what stands behind
    stop = len(whole) - (whole[-1:] == [end] and len(whole) > 0)
    return SpecialTokens(tuple(whole[:stop]) if not plain else (), tuple(whole[stop:]))
