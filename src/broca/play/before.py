"""The prompt before: what a prompt shares with it is not computed again.

A prompt is typed letter by letter. Every row's keys and values stay from one answer to the next,
and those of the tokens with which both prompts begin hold while the rows' changes are the same.
What was said behind the same prompt is a draft of what is said now (:mod:`broca.play.drafts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from broca.choices.continuations import check_continuations
from broca.interventions import Intervention
from broca.model import LanguageModel
from broca.model.resume import KeysValues
from broca.play.drafts import Drafts

Changes = Sequence[Intervention]
MOST_BYTES = 256 << 20  # of keys and values that stay


@dataclass
class Before:
    """The prompt that was answered last.

    Attributes:
        ids: Its tokens.
        rows: The changes of each row.
        past: Keys and values of all its tokens, per layer.
        said: Tokens that each row said behind it; none before they are known.
    """

    ids: Sequence[int] = ()
    rows: Sequence[Changes] = ()
    past: KeysValues = field(default_factory=list)
    said: Sequence[Sequence[int]] = ()

    def shared(self, model: LanguageModel, ids: Sequence[int], rows: Sequence[Changes]) -> int:
        """First tokens of a prompt whose keys and values are here, 0 where none are of use.

        The last token of either prompt is left out: there may be changes there alone, and its
        logits are wanted.
        """
        if not self.past or not _same(rows, self.rows) or not check_continuations(model):
            return 0
        pairs = zip(ids[:-1], self.ids[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def drafts(self, ids: Sequence[int]) -> Drafts:
        """What rows may say behind a prompt: what they said, where it is the same."""
        return Drafts(self.said if list(ids) == list(self.ids) else ())

    def keep(self, ids: Sequence[int], rows: Sequence[Changes], past: KeysValues) -> None:
        """Take the place of the prompt before, or leave it empty where that is too much."""
        size = sum(one.nbytes for pair in past if pair is not None for one in pair)
        kept = past if size <= MOST_BYTES and all(pair is not None for pair in past) else []
        self.ids, self.rows, self.past, self.said = ids, rows, kept, ()


def _same(rows: Sequence[Changes], others: Sequence[Changes]) -> bool:
    """Whether the rows' changes are the very same ones."""
    ours, theirs = ([[id(one) for one in row] for row in listed] for listed in (rows, others))
    return ours == theirs
