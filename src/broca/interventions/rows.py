"""Edits of single rows, made all at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from broca.interventions.edits import Edit
from broca.interventions.kinds import Fix, Positions, Scale

MASKED = 1 << 16
"""Values up to which all of them are passed through a mask: fewer than finding a few costs."""


@dataclass
class RowEdits:
    """Edits of single rows at the same positions, made all at once: value -> factor · value + put.

    Attributes:
        positions: Where.
        rows, neurons, factors, put: One of each per edited neuron of a row; no factors where all
            are 0, nothing put where only zeros are.
    """

    positions: Positions
    rows: Tensor
    neurons: Tensor
    factors: Tensor | None
    put: Tensor | None
    _cast: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor | None, Tensor]] = (
        field(default_factory=dict)
    )
    _masks: dict[tuple[torch.device, int], Tensor] = field(default_factory=dict)

    def make(self, values: Tensor, tokens: slice | list[int]) -> None:
        """Change [prompt, token, neuron] in place."""
        off = self.factors is None and self.put is None
        if off and isinstance(tokens, slice) and values.numel() <= MASKED:
            values[:, tokens].masked_fill_(self._mask(values), 0.0)
            return
        rows, neurons, factors, put = self._as(values)
        if isinstance(tokens, slice):
            here, own = values[:, tokens].transpose(1, 2), (rows, neurons)
        else:
            at = torch.tensor(tokens, device=values.device)
            here, own = values.transpose(1, 2), (rows[:, None], neurons[:, None], at)
        if factors is not None:
            # an infinite value times 0 would not be 0
            put = torch.where(factors == 0, put, here[own] * factors + put)
        here[own] = put

    def _mask(self, values: Tensor) -> Tensor:
        """Where the rows are edited, [prompt, 1, neuron]; once for all passes of so many rows."""
        key = values.device, len(values)
        if key not in self._masks:
            mask = torch.zeros(len(values), 1, values.shape[-1], dtype=torch.bool)
            mask[self.rows, 0, self.neurons] = True
            self._masks[key] = mask.to(values.device)
        return self._masks[key]

    def _as(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Rows and neurons; factors and what is put, [neuron, token]; once for all passes."""
        key = values.device, values.dtype
        if key not in self._cast:
            factors = None if self.factors is None else self.factors.to(values)[:, None]
            rows, neurons = self.rows.to(values.device), self.neurons.to(values.device)
            put = values.new_zeros(len(rows)) if self.put is None else self.put.to(values)
            self._cast[key] = rows, neurons, factors, put[:, None]
        return self._cast[key]


def grouped(edits: list[Edit]) -> list[RowEdits]:
    by_positions: dict[Positions, list[Edit]] = defaultdict(list)
    for edit in edits:
        by_positions[edit.positions].append(edit)
    return [_row_edits(positions, listed) for positions, listed in by_positions.items()]


def _row_edits(positions: Positions, edits: list[Edit]) -> RowEdits:
    lengths = [len(edit.neurons) for edit in edits]
    kinds = [edit.intervention for edit in edits]
    factors = [float(one.factor) if isinstance(one, Scale) else 0.0 for one in kinds]
    fixed = any(isinstance(one, Fix) for one in kinds)
    return RowEdits(
        positions,
        torch.from_numpy(np.repeat([edit.row for edit in edits], lengths)),  # type: ignore[arg-type]
        torch.cat([edit.neurons for edit in edits]),
        torch.from_numpy(np.repeat(factors, lengths)) if any(factors) else None,
        torch.from_numpy(np.concatenate([_put(edit) for edit in edits])) if fixed else None,
    )


def _put(edit: Edit) -> np.ndarray:
    """What an edit puts at each neuron or adds to it, float64 [neuron]."""
    one, n = edit.intervention, len(edit.neurons)
    if isinstance(one, Scale):
        return np.zeros(n)
    fixed = np.asarray(one.value, dtype=np.float64)
    return fixed[edit.index.numpy()] if fixed.ndim else np.full(n, fixed)
