"""What is done to which neurons, and at which positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.errors import InterventionError
from broca.neurons import NeuronSet

Positions = str | tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """Multiply neurons by a factor.

    Attributes:
        neurons: Which neurons.
        factor: 0 switches off, 1 changes nothing, 2 doubles.
        positions: ``"all"`` (prompt and generation), ``"last"`` (the prompt's last token),
            ``"answer"`` (that one and every answer token after it: wherever an answer's next
            token is read), or positions counted from the prompt's end, e.g. ``(-1, -2)``.

    Raises:
        InterventionError: If the factor is not finite or a position is not negative.
    """

    neurons: NeuronSet
    factor: float
    positions: Positions = "all"

    def __post_init__(self) -> None:
        _check(self.factor, self.positions)

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """New values of the neurons, from their values [..., neuron]."""
        return values * self.factor


@dataclass(frozen=True)
class Deactivate(Scale):
    """Set neurons to 0 (paper B's deactivation, at every position by default)."""

    factor: float = 0.0

    def __init__(self, neurons: NeuronSet, positions: Positions = "all") -> None:
        object.__setattr__(self, "neurons", neurons)
        object.__setattr__(self, "factor", 0.0)
        object.__setattr__(self, "positions", positions)
        self.__post_init__()

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """Zeros, whatever the values (an infinite value times 0 would not be 0)."""
        return torch.zeros_like(values)


@dataclass(frozen=True)
class Fix:
    """Set neurons to a value: one for all, or one per neuron in the set's order.

    Attributes:
        neurons: Which neurons.
        value: A number, or one per neuron.
        positions: See :class:`Scale`.

    Raises:
        InterventionError: If the values do not fit the set or are not finite.
    """

    neurons: NeuronSet
    value: float | tuple[float, ...]
    positions: Positions = "all"

    def __post_init__(self) -> None:
        if isinstance(self.value, tuple) and len(self.value) != len(self.neurons):
            raise InterventionError(
                f"{len(self.value)} values for {len(self.neurons)} neurons",
                mend="Give one value, or one per neuron in the set's order.",
            )
        _check(self.value, self.positions)

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """The fixed values, [..., neuron]."""
        fixed = torch.as_tensor(self.value, dtype=values.dtype, device=values.device)
        return (fixed[index] if fixed.dim() else fixed).expand_as(values)


Intervention = Scale | Fix


def _check(numbers: float | tuple[float, ...], positions: Positions) -> None:
    if not np.all(np.isfinite(numbers)):
        raise InterventionError(
            f"{numbers} is not a finite number", mend="Give one, such as 0 or 2."
        )
    named = positions in ("all", "last", "answer")
    if not named and (isinstance(positions, str) or not positions or max(positions) >= 0):
        raise InterventionError(
            f"Cannot intervene at positions {positions!r}",
            mend="Use 'all', 'last', 'answer' or negative positions counted from the prompt's end.",
        )


def first_layer(interventions: Sequence[Intervention | None]) -> int | None:
    """The lowest layer that any of them edits, None if none edits anything."""
    lowest = [int(i.neurons.layers.min()) for i in interventions if i and len(i.neurons)]
    return min(lowest, default=None)
