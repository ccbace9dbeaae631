"""Drafts: what a row will probably say is read in one pass, rather than token by token.

Where a prompt stays and its changes, draws or chosen answer do not, most rows say what they said
before. Each row keeps of its draft what it would have said itself, so a draft changes no answer,
only how many passes it takes.

Source: speculative decoding (Leviathan et al. 2023) with greedy tokens; the drafts are known
already and need no smaller model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Tokens = Sequence[int]


@dataclass(frozen=True)
class Drafts:
    """What rows may say behind a prompt.

    Attributes:
        known: What rows said there before, row by row; empty where nothing is known.
    """

    known: Sequence[Tokens] = ()

    def of(self, row: int, said: Tokens, most: int) -> list[int]:
        """What a row may say next: by what it said before, else by what another row did.

        Args:
            row: The row.
            said: What it has said so far.
            most: Tokens at most.
        """
        for one in (*self.known[row : row + 1], *self.known):
            if len(one) > len(said) and list(one[: len(said)]) == list(said):
                return list(one[len(said) :][: max(most, 0)])
        return []


def width(lengths: Sequence[int]) -> int:
    """How many tokens a pass reads of each row, by how many each row has to be read.

    What most rows have no use for is not read.
    """
    return sorted(lengths, reverse=True)[(len(lengths) - 1) // 2]


def filled(tokens: Tokens, n: int) -> list[int]:
    """The first `n` tokens; where there are fewer, others that nobody asks about behind them."""
    return [*tokens[:n], *[tokens[-1]] * (n - len(tokens))]
