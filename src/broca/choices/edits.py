"""Different neurons scaled in every row of a batch, at all positions of the pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from broca.interventions import Scale
from broca.neurons import SITES

Change = Callable[[Tensor], Tensor]


def scaled_neurons(
    scales: Sequence[Scale | None], device: torch.device
) -> Mapping[tuple[str, int], Change]:
    """(site, layer) -> function that scales every row's neurons there.

    Args:
        scales: One per row; None for none.
        device: Where the model is.

    Returns:
        Functions of values [row, token, neuron].
    """
    parts = [(row, scale) for row, scale in enumerate(scales) if scale and len(scale.neurons)]
    if not parts:
        return {}
    rows = np.concatenate([np.full(len(s.neurons), row) for row, s in parts])
    factors = np.concatenate([np.full(len(s.neurons), s.factor) for _, s in parts])
    sites = np.concatenate([s.neurons.sites for _, s in parts])
    layers = np.concatenate([s.neurons.layers for _, s in parts])
    indices = np.concatenate([s.neurons.indices for _, s in parts])
    changes = {}
    for site, layer in sorted(set(zip(sites.tolist(), layers.tolist(), strict=True))):
        here = (sites == site) & (layers == layer)
        changes[SITES[site], layer] = _scaling(
            torch.from_numpy(rows[here]).to(device),
            torch.from_numpy(indices[here].astype(np.int64)).to(device),
            torch.from_numpy(factors[here]).to(device),
        )
    return changes


def _scaling(rows: Tensor, neurons: Tensor, factors: Tensor) -> Change:
    def change(values: Tensor) -> Tensor:
        new = values.clone()
        own = rows.to(values.device), slice(None), neurons.to(values.device)
        factor = factors.to(values)[:, None]
        picked = values[own]  # [neuron, token]
        # an infinite value times 0 would not be 0
        new[own] = torch.where(factor == 0, torch.zeros_like(picked), picked * factor)
        return new

    return change
