"""All neurons of some sites of a model in one line: the flat positions of arrays of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
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
        return int(self._ends[-1])

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        """(site, layer, width) of every block that has neurons, in order."""
        return [
            (site, layer, width)
            for site in self.sites
            for layer, width in enumerate(self.identity.layer_widths(site))
            if width
        ]

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([width for _, _, width in self._places], dtype=np.int64)

    @cached_property
    def _number_of(self) -> dict[tuple[str, int], int]:
        return {(site, layer): n for n, (site, layer, _) in enumerate(self._places)}

    def blocks(self) -> Iterator[tuple[str, int, slice]]:
        """Yield (site, layer, slice of flat positions), in order; layers without the site not."""
        for (site, layer, width), end in zip(self._places, self._ends.tolist(), strict=True):
            yield site, layer, slice(end - width, end)

    def block_slice(self, site: str, layer: int) -> slice:
        """Flat positions of the neurons of one site and layer.

        Raises:
            NeuronError: If the index has no neuron there.
        """
        number = self._number_of.get((site, layer))
        if number is None:
            if site not in self.sites:
                raise NeuronError(
                    f"Site {site!r} is not in this index", mend=f"It has {self.sites}."
                )
            raise NeuronError(f"Layer {layer} has no site {site!r}", self.identity.id)
        end = int(self._ends[number])
        return slice(end - self._places[number][2], end)

    def site_slice(self, site: str) -> slice:
        """Flat positions of all neurons of one site."""
        layers = [layer for found, layer, _ in self._places if found == site]
        if not layers:
            raise NeuronError(f"Site {site!r} is not in this index", mend=f"It has {self.sites}.")
        first, last = self.block_slice(site, layers[0]), self.block_slice(site, layers[-1])
        return slice(first.start, last.stop)

    def locate(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Site codes (into :data:`SITES`), layers and indices of flat positions, each [neuron]."""
        flat = np.asarray(flat, dtype=np.int64)
        which = np.searchsorted(self._ends, flat, side="right")
        codes = np.array([CODES[site] for site, _, _ in self._places], dtype=np.int8)
        layers = np.array([layer for _, layer, _ in self._places], dtype=np.int32)
        starts = self._ends - np.array([width for _, _, width in self._places], dtype=np.int64)
        return codes[which], layers[which], (flat - starts[which]).astype(np.int32)

    def from_grid(self, positions: np.ndarray) -> np.ndarray:
        """Flat positions of places in a flattened array [layer, neuron] of the index's one site.

        Such arrays have the width of the widest layer; an index has no gaps.

        Raises:
            NeuronError: If the index has several sites, or a place is behind its layer's end.
        """
        known, wanted = self._in_grid(), np.asarray(positions, np.int64)
        flat = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        if (known[flat] != wanted).any():
            raise NeuronError("A neuron lies outside of its layer", self.identity.id)
        return flat

    def of_grid(self, values: np.ndarray) -> np.ndarray:
        """Values [..., neuron] in this index's order, of an array [..., layer, neuron].

        Such arrays have the width of the widest layer; what stands behind a shorter layer's end
        is left out.

        Raises:
            NeuronError: If the index has several sites.
        """
        values = np.asarray(values)
        return values.reshape(*values.shape[:-2], -1)[..., self._in_grid()]

    def as_grid(self, values: np.ndarray, fill: Any = 0) -> np.ndarray:
        """The reverse of :meth:`of_grid`, with a fill behind the shorter layers' ends.

        Raises:
            NeuronError: If the index has several sites.
        """
        values, widest = np.asarray(values), self.identity.width(self.sites[0])
        shape = (*values.shape[:-1], self.identity.n_layers, widest)
        found = np.full((*values.shape[:-1], shape[-2] * widest), fill, values.dtype)
        found[..., self._in_grid()] = values
        return found.reshape(shape)

    def _in_grid(self) -> np.ndarray:
        if len(self.sites) != 1:
            raise NeuronError("Arrays [layer, neuron] are of one site", mend=f"Not {self.sites}.")
        return self.identity.positions(self.sites[0])

    def flatten(self, neurons: NeuronSet) -> np.ndarray:
        """Flat positions [neuron] of a set's neurons, in rank order.

        Raises:
            NeuronError: If a neuron's site is not in this index.
        """
        flat = neurons.indices.astype(np.int64)
        for site, layer in neurons.counts():
            here = (neurons.sites == CODES[site]) & (neurons.layers == layer)
            flat[here] += self.block_slice(site, layer).start
        return flat

    def select(self, flat: np.ndarray, scores: np.ndarray | None = None, **about: Any) -> NeuronSet:
        """Make a :class:`NeuronSet` of flat positions in rank order."""
        sites, layers, indices = self.locate(flat)
        if scores is None:
            scores = np.full(len(sites), np.nan)
        return NeuronSet(self.identity, sites, layers, indices, np.asarray(scores, float), **about)
