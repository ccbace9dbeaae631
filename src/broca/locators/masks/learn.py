"""Learn masks: fewest neurons against the answer, step by step.

1. Parameters start from gradient * activation, its ranks spread over [-1, 1] (``warm``).
2. A step runs the answers under the masks and goes down loss + strength * share kept (*destroy*:
   strength * share taken away), by Adam with one scale per mask (:class:`_Steps`).
3. With a ``budget`` there is no strength: after every step all parameters of a mask are shifted by
   one constant so that it keeps as many neurons as the step may (the projection onto the budget),
   which falls geometrically from all of them to the budget.
4. Learning stops early when neither loss nor share has improved for ``patience`` steps.

Source: arXiv 2311.09060 (slimming, hard concrete); warm start, budget and the term for other
relations are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.effects.aims import Aim
from broca.errors import EffectError
from broca.locators.masks.config import MaskConfig
from broca.locators.masks.gates import GATES, Gate
from broca.locators.masks.loss import Loss
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.progress import pulse

_FIRST, _SECOND = 0.9, 0.99  # decay of the moments
_ANNEALED = 0.7  # of the steps, the budget falls; then it stays
_FURTHEST, _HALVINGS = 40.0, 40  # of a shift


@dataclass(frozen=True, eq=False)
class Masks:
    """What was learned.

    Attributes:
        scores: How surely a neuron is kept (taken away), float32 [mask, layer, neuron]; 0 behind
            the end of a layer that is narrower than others.
        kept: Expected number of neurons kept (taken away), [mask].
        loss: What the answers lose under the masks, nats, [mask].
        n_steps: Steps spent.
    """

    scores: np.ndarray
    kept: np.ndarray
    loss: np.ndarray
    n_steps: int


def learn_masks(
    model: LanguageModel,
    aims: Sequence[Sequence[Aim]],
    config: MaskConfig,
    *,
    warm: np.ndarray | None = None,
    shared: bool = False,
    others: Sequence[Sequence[Aim]] = (),
) -> Masks:
    """Learn a mask per prompt, or one for all prompts.

    Args:
        model: The model under study.
        aims: Per prompt, what is read, one aim per token of the answer.
        config: How.
        warm: Values to start from, higher where a neuron supports the answer, [mask, layer,
            neuron].
        shared: Whether all prompts share one mask (a query's prompts, a relation's).
        others: Prompts whose answers must stay (only with ``shared``).

    Raises:
        EffectError: If the budget exceeds the number of neurons, or others come with a mask per
            prompt.
    """
    index = NeuronIndex(model.identity, ("hidden",))
    n_masks, total = 1 if shared else len(aims), len(index)
    if config.budget is not None and not 1 <= config.budget <= total:
        raise EffectError(
            f"A budget of {config.budget} neurons was asked for and the model has {total}",
            mend=f"Choose between 1 and {total}.",
        )
    if others and not shared:
        raise EffectError("Other prompts need one mask for all prompts", mend="Use shared=True.")
    learning = _Learning(model, aims, config, shared, others)
    start = torch.zeros(n_masks, total)
    if config.warm and warm is not None:
        start = _ranked(index.of_grid(warm))
    return learning.run(GATES[config.gate].start(start))


def _ranked(warm: np.ndarray) -> Tensor:
    """Ranks of each mask's values, [mask, neuron], spread over [-1, 1]."""
    ranks = warm.argsort(axis=1).argsort(axis=1)
    return torch.from_numpy(2.0 * ranks / (warm.shape[1] - 1) - 1.0).float()


class _Learning:
    """One run of the loop; masks and parameters are [mask, neuron], all layers in one line."""

    def __init__(
        self,
        model: LanguageModel,
        aims: Sequence[Sequence[Aim]],
        config: MaskConfig,
        shared: bool,
        others: Sequence[Sequence[Aim]],
    ) -> None:
        self.config = config
        self.gate: Gate = GATES[config.gate]
        self.loss = Loss(model, aims, config, shared, others)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.index = NeuronIndex(model.identity, ("hidden",))
        self.total = len(self.index)

    def run(self, parameters: Tensor) -> Masks:
        config = self.config
        parameters = parameters.detach().clone()
        steps = _Steps(config.learning_rate)
        best, waited, spent = torch.full((len(parameters),), torch.inf), 0, 0
        lost = torch.zeros(len(parameters))
        while spent < config.n_steps and waited < config.patience:
            leaf = parameters.requires_grad_()
            with torch.enable_grad():
                lost = self.loss(self.gate.masks(leaf, self.generator))
                objective = lost
                if config.budget is None:
                    objective = lost + config.strength * self.gate.penalty(leaf)
                (gradient,) = torch.autograd.grad(objective.sum(), leaf)
            parameters = steps.after(parameters.detach(), gradient)
            self.gate.clip(parameters)
            spent += 1
            pulse(spent, config.n_steps)
            if config.budget is not None:
                parameters = self._projected(parameters, spent)
                continue
            better = objective.detach() < best - 1e-3
            best = torch.where(better, objective.detach().to(best), best)
            waited = 0 if bool(better.any()) else waited + 1
        kept = self.gate.penalty(parameters) * self.total
        scores = self.gate.scores(parameters).float().numpy()
        scores = self.index.as_grid(scores)
        return Masks(scores, kept.numpy(), lost.detach().float().numpy(), spent)

    def _projected(self, parameters: Tensor, step: int) -> Tensor:
        """Parameters shifted by one constant per mask so that as many are kept as this step may."""
        assert self.config.budget is not None
        done = min(1.0, step / (_ANNEALED * self.config.n_steps))
        wanted = self.total * (self.config.budget / self.total) ** done
        low = torch.full((len(parameters), 1), -_FURTHEST)
        high = torch.full_like(low, _FURTHEST)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            shifted = parameters + middle
            self.gate.clip(shifted)
            many = (self.gate.penalty(shifted) * self.total > wanted)[:, None]
            low, high = torch.where(many, low, middle), torch.where(many, middle, high)
        found = parameters + low
        self.gate.clip(found)
        return found


class _Steps:
    """Adam with one scale per mask: what matters more to the answer moves more.

    Adam's own scale per number moves every neuron alike, important or not; their order is then
    that of the noise.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate, self.count = learning_rate, 0
        self.mean, self.square = torch.zeros(()), torch.zeros(())

    def after(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Parameters one step further."""
        self.count += 1
        square = gradient.square().mean(1, keepdim=True)
        self.mean = _FIRST * self.mean + (1 - _FIRST) * gradient
        self.square = _SECOND * self.square + (1 - _SECOND) * square
        mean = self.mean / (1 - _FIRST**self.count)
        scale = (self.square / (1 - _SECOND**self.count)).sqrt().clamp(min=1e-12)
        return parameters - self.learning_rate * mean / scale
