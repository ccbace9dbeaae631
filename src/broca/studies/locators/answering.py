"""Answers measured in batches: P of the whole answer, and whether greedy decoding says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from broca.effects.aims import Aim
from broca.model import LanguageModel

_BATCH = 32


class Answers(NamedTuple):
    """Of some prompts, each [prompt].

    Attributes:
        p: Probability of the whole answer, the product over its tokens.
        right: Whether every token of it is the likeliest after those before it.
    """

    p: np.ndarray
    right: np.ndarray


@torch.no_grad()
def measure_answers(model: LanguageModel, aims: Sequence[Sequence[Aim]]) -> Answers:
    """Measure answers, one aim per token each (:func:`broca.effects.aims.make_aims`)."""
    tokens = [listed[-1].tokens for listed in aims]
    p, right = np.zeros(len(aims)), np.zeros(len(aims), bool)
    for rows in model.batches([len(ids) for ids in tokens], _BATCH):
        longest = max(len(aims[i]) for i in rows)
        logits = model.logits(model.pad([tokens[i] for i in rows]), logits_to_keep=longest)
        for row, i in zip(logits, rows, strict=True):
            targets = torch.tensor([aim.target for aim in aims[i]], device=row.device)
            said = row[-len(targets) :].double()
            log_p = said.log_softmax(-1)[torch.arange(len(targets)), targets]
            p[i] = float(log_p.sum().exp())
            right[i] = bool((said.argmax(-1) == targets).all())
    return Answers(p, right)
