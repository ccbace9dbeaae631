"""Random neurons: the controls of every finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from broca.errors import NeuronError
from broca.neurons.sites import CODES

if TYPE_CHECKING:
    from broca.neurons.index import NeuronIndex
    from broca.neurons.neuron_set import NeuronSet


def draw_matched(neurons: NeuronSet, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Site codes, layers and indices, each [neuron], of :meth:`NeuronSet.matched_random`.

    Raises:
        NeuronError: If a layer has too few neurons outside the set.
    """
    rng = np.random.default_rng([seed, 0xB0CA])
    sites, layers, indices = [], [], []
    for (site, layer), n in neurons.counts().items():
        taken = neurons.only(site=site, layer=layer).indices
        free = np.setdiff1d(np.arange(neurons.identity.width(site, layer)), taken)
        if len(free) < n:
            raise NeuronError(
                f"Only {len(free)} neurons of {site} in layer {layer} lie outside the set",
                neurons.name or None,
                f"A matched random set needs {n}: choose a smaller k.",
            )
        indices.append(np.sort(rng.choice(free, n, replace=False)))
        sites.append(np.full(n, CODES[site]))
        layers.append(np.full(n, layer))
    join = lambda parts, kind: np.concatenate(parts or [np.empty(0)]).astype(kind)  # noqa: E731
    return join(sites, np.int8), join(layers, np.int32), join(indices, np.int32)


def uniform_random(index: NeuronIndex, k: int, seed: int, name: str = "") -> NeuronSet:
    """``k`` neurons drawn uniformly from all neurons of an index (paper B's random control).

    Raises:
        NeuronError: If the index has fewer than ``k`` neurons.
    """
    if k > len(index):
        raise NeuronError(f"Cannot draw {k} of {len(index)} neurons", mend="Choose a smaller k.")
    flat = np.random.default_rng([seed, 0x12A]).choice(len(index), k, replace=False)
    return index.select(
        np.sort(flat),
        name=name or f"uniform-{seed}",
        method="uniform-random",
        settings={"seed": seed},
    )
