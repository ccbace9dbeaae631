"""Different neurons changed in every row of a batch, at all positions of the pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from broca.interventions import Fix, Intervention
from broca.neurons import SITES

Change = Callable[[Tensor], Tensor]


def changed_neurons(
    edits: Sequence[Intervention | None], device: torch.device
) -> Mapping[tuple[str, int], Change]:
    """(site, layer) -> function that changes every row's neurons there.

    Args:
        edits: One per row, scaling or fixing neurons; None for none.
        device: Where the model is.

    Returns:
        Functions of values [row, token, neuron].
    """
    parts = [(row, edit) for row, edit in enumerate(edits) if edit and len(edit.neurons)]
    if not parts:
        return {}
    rows = np.concatenate([np.full(len(e.neurons), row) for row, e in parts])
    factors, values = map(np.concatenate, zip(*(_numbers(e) for _, e in parts), strict=True))
    sites = np.concatenate([e.neurons.sites for _, e in parts])
    layers = np.concatenate([e.neurons.layers for _, e in parts])
    indices = np.concatenate([e.neurons.indices for _, e in parts])
    changes = {}
    for site, layer in sorted(set(zip(sites.tolist(), layers.tolist(), strict=True))):
        here = (sites == site) & (layers == layer)
        changes[SITES[site], layer] = _changing(
            torch.from_numpy(rows[here]).to(device),
            torch.from_numpy(indices[here].astype(np.int64)).to(device),
            torch.from_numpy(factors[here]).to(device),
            torch.from_numpy(values[here]).to(device),
        )
    return changes


def _numbers(edit: Intervention) -> tuple[np.ndarray, np.ndarray]:
    """Factor and value of every neuron: the new value is factor * old + value, [neuron] each."""
    n = len(edit.neurons)
    if isinstance(edit, Fix):
        return np.zeros(n), np.broadcast_to(np.asarray(edit.value, float), n)
    return np.full(n, float(edit.factor)), np.zeros(n)


def _changing(rows: Tensor, neurons: Tensor, factors: Tensor, fixed: Tensor) -> Change:
    def change(values: Tensor) -> Tensor:
        new = values.clone()
        own = rows.to(values.device), slice(None), neurons.to(values.device)
        factor, value = factors.to(values)[:, None], fixed.to(values)[:, None]
        picked = values[own]  # [neuron, token]
        # an infinite value times 0 would not be 0
        new[own] = torch.where(factor == 0, value.expand_as(picked), picked * factor)
        return new

    return change
