"""All neurons of some sites of a model in one line: the flat positions of arrays of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from broca.errors import NeuronError
from broca.neurons.identity import ModelIdentity
from broca.neurons.neuron_set import NeuronSet
from broca.neurons.sites import CODES, SITES, ordered_sites


@dataclass(frozen=True)
class NeuronIndex:
    """All neurons of some sites in one line, ordered by (site, layer, index)."""

    identity: ModelIdentity
    sites: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", ordered_sites(self.sites))
        if not self.sites:
            raise NeuronError("No site chosen", mend=f"Choose among {', '.join(SITES)}.")
        for site in self.sites:
            self.identity.width(site)

    def __len__(self) -> int:
        return self.identity.n_layers * sum(self.identity.width(site) for site in self.sites)

    def blocks(self) -> Iterator[tuple[str, int, slice]]:
        """Yield (site, layer, slice of flat positions), in order."""
        start = 0
        for site in self.sites:
            width = self.identity.width(site)
            for layer in range(self.identity.n_layers):
                yield site, layer, slice(start, start + width)
                start += width

    def block_slice(self, site: str, layer: int) -> slice:
        """Flat positions of the neurons of one site and layer."""
        start = 0
        for other in self.sites:
            width = self.identity.width(other)
            if other == site:
                return slice(start + layer * width, start + (layer + 1) * width)
            start += width * self.identity.n_layers
        raise NeuronError(f"Site {site!r} is not in this index", mend=f"It has {self.sites}.")

    def locate(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Site codes (into :data:`SITES`), layers and indices of flat positions, each [neuron]."""
        flat = np.asarray(flat, dtype=np.int64)
        widths = np.array([self.identity.width(site) for site in self.sites], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(widths * self.identity.n_layers)])
        which = np.searchsorted(starts, flat, side="right") - 1
        inside = flat - starts[which]
        codes = np.array([CODES[site] for site in self.sites], dtype=np.int8)
        return (
            codes[which],
            (inside // widths[which]).astype(np.int32),
            (inside % widths[which]).astype(np.int32),
        )

    def flatten(self, neurons: NeuronSet) -> np.ndarray:
        """Flat positions [neuron] of a set's neurons, in rank order."""
        flat = np.empty(len(neurons), dtype=np.int64)
        for code in np.unique(neurons.sites):
            here = neurons.sites == code
            site = SITES[code]
            start = self.block_slice(site, 0).start
            width = self.identity.width(site)
            flat[here] = start + neurons.layers[here].astype(np.int64) * width
            flat[here] += neurons.indices[here]
        return flat

    def select(self, flat: np.ndarray, scores: np.ndarray | None = None, **about: Any) -> NeuronSet:
        """Make a :class:`NeuronSet` of flat positions in rank order."""
        sites, layers, indices = self.locate(flat)
        if scores is None:
            scores = np.full(len(sites), np.nan)
        return NeuronSet(self.identity, sites, layers, indices, np.asarray(scores, float), **about)
