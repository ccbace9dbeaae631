"""What masks are held to beside the number of neurons: what own answers lose, and others'."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from broca.effects.aims import Aim
from broca.locators.masks.config import MaskConfig
from broca.locators.masks.objective import make_group
from broca.model import LanguageModel


class Loss:
    """Nats per prompt that masks miss their goal by; to be called with masks [mask, neuron].

    *keep*: what log P of the answers loses under the mask. *destroy*: what their loss without the
    mask's neurons lacks to the floor. With other prompts, ``others_weight`` times what these lose
    without the mask's neurons is added to either.
    """

    def __init__(
        self,
        model: LanguageModel,
        aims: Sequence[Sequence[Aim]],
        config: MaskConfig,
        shared: bool,
        others: Sequence[Sequence[Aim]] = (),
    ) -> None:
        self.config = config
        self.own = make_group(model, aims, shared, config.positions)
        self.size = torch.tensor([float(len(aims))] if shared else [1.0] * len(aims))
        self.others = make_group(model, others, True, config.positions) if others else None
        self.n_others = len(others)
        self.before = self.own.before()
        self.others_before = self.others.before() if self.others else None

    def __call__(self, masks: Tensor) -> Tensor:
        """The loss, float32 [mask]."""
        if self.config.goal == "keep":
            lost = (self.before - self.own.log_p(masks)) / self.size
        else:
            fallen = (self.before - self.own.log_p(1 - masks)) / self.size
            lost = (self.config.floor - fallen).clamp(min=0.0)
        if self.others is not None:
            lost = lost + self.config.others_weight * self._others_lose(1 - masks)
        return lost.float()

    def _others_lose(self, masks: Tensor) -> Tensor:
        assert self.others is not None
        assert self.others_before is not None
        return ((self.others_before - self.others.log_p(masks)) / self.n_others).clamp(min=0.0)
