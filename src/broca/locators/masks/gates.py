"""Two ways to learn which neurons stay: a number in [0, 1] per neuron.

- *slimming*: m in [0, 1] itself, started at 1, clipped after every step (Liu et al. 2017).
- *hard concrete*: m = clip(s (zeta - gamma) + gamma, 0, 1), s = sigmoid((log u - log(1-u) +
  log a) / beta), u uniform anew in every step; gamma = -.1, zeta = 1.1, beta = 2/3. Its penalty is
  the chance that m is not 0; its score sigmoid(log a) (Louizos et al. 2018).

Source: arXiv 2311.09060, section 4, for both as locators.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

GAMMA, ZETA, BETA = -0.1, 1.1, 2 / 3


class Gate(Protocol):
    """Parameters made into masks."""

    def start(self, warm: Tensor) -> Tensor:
        """First parameters from warm-start values in [-1, 1], the same shape."""
        ...

    def masks(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Masks in [0, 1] to run with."""
        ...

    def penalty(self, parameters: Tensor) -> Tensor:
        """Expected share of neurons kept, [mask], of parameters [mask, neuron]."""
        ...

    def scores(self, parameters: Tensor) -> Tensor:
        """How surely each neuron is kept."""
        ...

    def clip(self, parameters: Tensor) -> None:
        """Bring parameters back to where they may be."""
        ...


class Slimming:
    """See the module. Warm values order neurons within the mask: between .9 and 1 at the start."""

    def start(self, warm: Tensor) -> Tensor:
        return 0.95 + 0.05 * warm

    def masks(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        return parameters

    def penalty(self, parameters: Tensor) -> Tensor:
        return parameters.mean(1)

    def scores(self, parameters: Tensor) -> Tensor:
        return parameters.detach()

    def clip(self, parameters: Tensor) -> None:
        parameters.clamp_(0.0, 1.0)


class HardConcrete:
    """See the module. Warm values are log a: from -1 to 1 around an open gate."""

    def start(self, warm: Tensor) -> Tensor:
        return 2.0 + warm

    def masks(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        u = torch.rand(parameters.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
        s = torch.sigmoid((u.log() - (1 - u).log() + parameters) / BETA)
        return (s * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)

    def penalty(self, parameters: Tensor) -> Tensor:
        kept = torch.sigmoid(parameters - BETA * math.log(-GAMMA / ZETA))
        return kept.mean(1)

    def scores(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters.detach())

    def clip(self, parameters: Tensor) -> None:
        parameters.clamp_(-12.0, 12.0)


GATES: dict[str, Gate] = {"slimming": Slimming(), "hard-concrete": HardConcrete()}
