"""A mask's learning rate and strength, chosen on held-out prompts.

1. For every pair on a small grid masks are learned on the held-out prompts; with a budget there is
   no strength, the grid is the rates alone. A setting given by the caller stands.
2. Each mask is made hard: its first ``budget`` neurons (1 % of all without one) are 1, all others
   0. It is judged by the loss it was learned for (:class:`broca.locators.masks.loss.Loss`): what
   the answers lose with these neurons alone (*keep*), or fail to lose without them (*destroy*).
3. A mask shared by prompts is learned on every second of them and judged on the others.

The pair of the least mean loss is taken. Nothing of the prompts that are located later is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from broca.effects.aims import Aim
from broca.errors import EffectError
from broca.locators.masks.config import MaskConfig
from broca.locators.masks.learn import learn_masks
from broca.locators.masks.loss import Loss
from broca.model import LanguageModel
from broca.neurons import NeuronIndex

RATES = (0.03, 0.1, 0.3)
STRENGTHS = (10.0, 30.0, 100.0)
_SHARE = 0.01  # of the neurons, judged where there is no budget


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        config: The settings.
        tried: A record per pair: learning rate, strength (None with a budget) and the mean loss of
            hard masks in nats.
    """

    config: MaskConfig
    tried: Sequence[dict[str, Any]]


def choose_settings(
    model: LanguageModel,
    aims: Sequence[Sequence[Aim]],
    config: MaskConfig,
    *,
    warm: np.ndarray | None = None,
    shared: bool = False,
    others: Sequence[Sequence[Aim]] = (),
    rates: Sequence[float] = RATES,
    strengths: Sequence[float] = STRENGTHS,
) -> Chosen:
    """The settings that serve held-out prompts best.

    Args:
        model: The model under study.
        aims: Aims of the held-out prompts.
        config: All other settings.
        warm: Values to start from, [prompt, layer, neuron].
        shared: Whether all prompts share one mask.
        others: Prompts whose answers must stay (only with ``shared``).
        rates: Learning rates tried.
        strengths: Strengths tried where there is no budget.

    Raises:
        EffectError: A shared mask is to be judged and there is one prompt only.
    """
    if shared and len(aims) < 2:
        raise EffectError(
            "A mask shared by prompts is learned on some held-out prompts and judged on others",
            f"{len(aims)} held-out prompt",
            "Give at least two.",
        )
    places = range(len(aims))
    learned, judged = (places[::2], places[1::2]) if shared else (places, places)
    start = None if warm is None else warm[list(learned)]
    if shared and start is not None:
        start = start.mean(0, keepdims=True)
    loss = Loss(model, [aims[i] for i in judged], config, shared, others)
    index = NeuronIndex(model.identity, ("hidden",))
    tried = []
    for rate, strength in product(rates, (None,) if config.budget is not None else strengths):
        trial = replace(config, learning_rate=rate, strength=strength or config.strength)
        found = learn_masks(
            model, [aims[i] for i in learned], trial, warm=start, shared=shared, others=others
        )
        with torch.no_grad():
            lost = loss(_hard(index.of_grid(found.scores), config.budget))
        tried.append(
            {"learning_rate": rate, "strength": strength, "lost": round(float(lost.mean()), 4)}
        )
    best = min(tried, key=lambda one: one["lost"])
    strength = best["strength"] or config.strength
    return Chosen(replace(config, learning_rate=best["learning_rate"], strength=strength), tried)


def _hard(scores: np.ndarray, budget: int | None) -> torch.Tensor:
    """1 for the first neurons by scores [mask, neuron], 0 for all others."""
    n = budget or max(1, round(_SHARE * scores.shape[1]))
    masks = torch.zeros(scores.shape)
    order = torch.from_numpy(np.argsort(-scores, axis=1, kind="stable")[:, :n].copy())
    return masks.scatter_(1, order, 1.0)
