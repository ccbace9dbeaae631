"""Checks of a model by arithmetic: what its structure promises is what it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from broca.model.drive import Drive
from broca.model.verify import recorded

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

__all__ = ["SelfCheck", "check_model", "recorded"]

_TEXTS = ("The quick brown fox jumps over the lazy dog", "One two", "A city in the north of")


@dataclass(frozen=True)
class SelfCheck:
    """What was measured of a model.

    Attributes:
        untouched_bit_equal: Logits after hooks were set and removed equal those before, bit by bit.
        padding_error: Largest logit difference between a left-padded batch and single rows, as
            a share of the largest logit.
        mlp_error: Largest relative error of hidden = act(gate) * up over layers (plain: act(up)).
        special_tokens: What special tokens prompts get, in words.
        drive: How the model may be driven; decides how it is.
    """

    untouched_bit_equal: bool
    padding_error: float
    mlp_error: float
    special_tokens: str
    drive: Drive

    @property
    def tolerance(self) -> float:
        """Share of the largest logit that the dtype lets pass."""
        return self.drive.tolerance

    @property
    def padding_holds(self) -> bool:
        """Whether padded batches equal single rows, within what the dtype allows."""
        return max(self.padding_error, self.drive.padding_error) <= self.drive.tolerance

    @property
    def resumes(self) -> bool:
        """Whether layers can be run from a given one on (primitive 2)."""
        return self.drive.resumes

    @property
    def resume_error(self) -> float:
        """Largest logit difference of doing so, as the same share."""
        return self.drive.resume_error


@torch.no_grad()
def check_model(model: LanguageModel) -> SelfCheck:
    """Measure a loaded model; nothing is assumed of its family."""
    tokens = model.encode(_TEXTS)
    batch = model.pad(tokens if model.drive.pads else tokens[:1])
    before = model.logits(batch)
    with recorded(model, model.sites):
        model.logits(batch)
    after = model.logits(batch)
    singles = [model.logits(model.pad([ids])) for ids in tokens[: len(batch)]]
    largest = max(1.0, float(before.abs().max()))
    return SelfCheck(
        untouched_bit_equal=bool(torch.equal(before, after)),
        padding_error=float((before - torch.cat(singles)).abs().max()) / largest,
        mlp_error=model.mlp_error,
        drive=model.drive,
        special_tokens=model.special_tokens.described(model.tokenizer),
    )
