"""A row while it speaks: token by token, the likeliest one, until its line has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from broca.answers import has_ended, said_line
from broca.model import LanguageModel
from broca.readout import token_text

SHOWN = 8  # next tokens shown of each step


@dataclass(frozen=True)
class Said:
    """One token of an answer.

    Attributes:
        id: The token.
        text: As text.
        p: Its probability when it was said.
        instead: The most probable tokens at that place, with their probabilities, where they are
            shown.
    """

    id: int
    text: str
    p: float
    instead: tuple[tuple[str, float], ...]


@dataclass
class Speaker:
    """A row while it speaks.

    Attributes:
        model: Who speaks.
        room: Tokens said at most.
        shown: Whether other tokens are shown at each step.
        said: The tokens so far.
        over: Whether there is no room left, or the text, or the first line that says something,
            has ended.
    """

    model: LanguageModel
    room: int
    shown: bool
    said: list[Said] = field(default_factory=list)
    over: bool = False

    @property
    def ids(self) -> list[int]:
        """The tokens so far."""
        return [one.id for one in self.said]

    @property
    def line(self) -> str:
        """The first line that says something, as far as it was said."""
        return said_line(self.model.tokenizer.decode(self.ids, skip_special_tokens=True))

    def go_on(self, logits: Tensor, draft: Sequence[int]) -> None:
        """Say the likeliest token, and the next ones while each was in the draft.

        Args:
            logits: Behind what was said, and behind that and each token of the draft,
                [token, vocab].
            draft: What was read behind what was said.
        """
        likeliest = logits.argmax(-1).tolist()
        for place, token in enumerate(likeliest):
            self._say(token, logits[place].softmax(-1))
            if self.over or list(draft[place : place + 1]) != [token]:
                return

    def _say(self, token: int, probabilities: Tensor) -> None:
        others = _others(self.model, probabilities) if self.shown else ()
        text = token_text(self.model, token)
        self.said.append(Said(token, text, float(probabilities[token]), others))
        self.over = len(self.said) >= self.room or _ended(self.model, self.ids)


def _ended(model: LanguageModel, said: Sequence[int]) -> bool:
    """Whether an answer is over: the text or the first line that says something has ended."""
    if said[-1] in model.end_tokens:
        return True
    return has_ended(model.tokenizer.decode(said, skip_special_tokens=True))


def _others(model: LanguageModel, probabilities: Tensor) -> tuple[tuple[str, float], ...]:
    """The most probable tokens, with their probabilities."""
    best = probabilities.topk(min(SHOWN, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((token_text(model, token), p) for token, p in pairs)
