"""Random neurons: the controls of every finding."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from broca.errors import NeuronError
from broca.neurons.sites import CODES

if TYPE_CHECKING:
    from broca.neurons.identity import Experts
    from broca.neurons.index import NeuronIndex
    from broca.neurons.neuron_set import NeuronSet


Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Site codes, layers and indices, each [neuron]."""

UNIT_SITES = ("gate", "up", "hidden")
"""Gate i, up i and hidden i of a layer switch the same gated unit."""


def draw_matched(neurons: NeuronSet, seed: int, *, units: bool = True) -> Places:
    """Neurons outside a set, with its count per site and layer; see `NeuronSet.matched_random`.

    As units: a unit of which the set holds any neuron is left out whole, and a unit of which it
    holds gate and up is replaced by gate and up of one other unit (METHODS §7).

    Raises:
        NeuronError: If a layer has too few neurons, or units, outside the set.
    """
    rng = np.random.default_rng([seed, 0xB0CA])
    drawn: list[tuple[str, int, np.ndarray]] = []
    counts = neurons.counts()
    for layer in sorted({layer for _, layer in counts}):
        here = [site for site, at in counts if at == layer]
        joint = [site for site in here if site in UNIT_SITES] if units else []
        if joint:
            drawn += _draw_units(neurons, layer, joint, rng)
        for site in here:
            if site not in joint:
                taken = neurons.places[site, layer][0]
                drawn.append(
                    (site, layer, _draw_free(neurons, site, layer, taken, len(taken), rng))
                )
    drawn.sort(key=lambda one: (CODES[one[0]], one[1]))
    return _places(drawn)


def _draw_units(
    neurons: NeuronSet, layer: int, sites: list[str], rng: np.random.Generator
) -> list[tuple[str, int, np.ndarray]]:
    members = {site: neurons.places[site, layer][0] for site in sites}
    width = neurons.identity.width(sites[0], layer)
    held = np.zeros(width, dtype=bool)
    held[np.concatenate(list(members.values()))] = True
    taken = np.flatnonzero(held)
    drawn = _draw_free(neurons, sites[0], layer, taken, len(taken), rng, "units")
    other = np.zeros(width, dtype=np.int64)
    other[taken] = rng.permutation(drawn)
    return [(site, layer, np.sort(other[listed])) for site, listed in members.items()]


def _free(width: int, taken: np.ndarray) -> np.ndarray:
    """The indices of a layer that are not taken, rising."""
    free = np.ones(width, dtype=bool)
    free[taken] = False
    return np.flatnonzero(free)


def _draw_free(
    neurons: NeuronSet,
    site: str,
    layer: int,
    taken: np.ndarray,
    n: int,
    rng: np.random.Generator,
    what: str = "neurons",
) -> np.ndarray:
    free = _free(neurons.identity.width(site, layer), taken)
    if len(free) < n:
        raise NeuronError(
            f"Only {len(free)} {what} of {site} in layer {layer} lie outside the set",
            neurons.name or None,
            f"A matched random set needs {n}: choose a smaller k.",
        )
    use = _use_of(neurons, site, layer)
    if use is not None:
        return np.sort(_draw_by_use(neurons.identity.experts[layer], use, taken, free, rng))
    return np.sort(rng.choice(free, n, replace=False))


def draw_active(
    neurons: NeuronSet, index: NeuronIndex, activity: np.ndarray, seed: int, nearest: int = 5
) -> Places:
    """Neurons outside a set that are about as active: of the same site and layer, one per neuron.

    Each neuron of the set, in drawn order, is replaced by one of the `nearest` free neurons whose
    mean |response| is nearest to its own (METHODS §7).

    Args:
        neurons: The set.
        index: All neurons.
        activity: Mean |response| of each, [neuron of the index].
        seed: Seed of the draw.
        nearest: Among how many one is drawn.

    Raises:
        NeuronError: If a layer has too few neurons outside the set.
    """
    rng = np.random.default_rng([seed, 0xAC71])
    drawn: list[tuple[str, int, np.ndarray]] = []
    for site, layer in neurons.counts():
        here = activity[index.block_slice(site, layer)]
        taken = neurons.places[site, layer][0]
        free = _free(len(here), taken)
        if len(free) < len(taken):
            raise NeuronError(
                f"Only {len(free)} neurons of {site} in layer {layer} lie outside the set",
                neurons.name or None,
                f"An activity-matched set needs {len(taken)}: choose a smaller k.",
            )
        order = free[np.argsort(here[free], kind="stable")]
        left = order.tolist()
        values = here[order].tolist()
        chosen = []
        for member in rng.permutation(taken).tolist():
            at = _nearest(values, float(here[member]), nearest, rng)
            chosen.append(left.pop(at))
            values.pop(at)
        drawn.append((site, layer, np.sort(np.array(chosen))))
    return _places(drawn)


def _nearest(values: list[float], wanted: float, nearest: int, rng: np.random.Generator) -> int:
    """Place of one of the values nearest to a wanted one; values are sorted."""
    low = high = bisect_left(values, wanted)  # those seen so far are values[low:high]
    ranked = []
    while len(ranked) < nearest and high - low < len(values):
        below = low and (high == len(values) or wanted - values[low - 1] <= values[high] - wanted)
        if below:
            low -= 1
        ranked.append(low if below else high)
        high += not below
    return ranked[int(rng.integers(len(ranked)))]


def _places(drawn: list[tuple[str, int, np.ndarray]]) -> Places:
    sites = [np.full(len(indices), CODES[site]) for site, _, indices in drawn]
    layers = [np.full(len(indices), layer) for _, layer, indices in drawn]
    join = lambda parts, kind: np.concatenate(parts or [np.empty(0)]).astype(kind)  # noqa: E731
    return (
        join(sites, np.int8),
        join(layers, np.int32),
        join([indices for _, _, indices in drawn], np.int32),
    )


def _use_of(neurons: NeuronSet, site: str, layer: int) -> np.ndarray | None:
    """How often each expert of a layer is used, where that is known of a set."""
    shares = neurons.settings.get("expert_use")
    if not shares or site not in ("hidden", "up", "gate") or not shares[layer]:
        return None
    return np.asarray(shares[layer], dtype=np.float64)


def _draw_by_use(
    experts: Experts,
    use: np.ndarray,
    taken: np.ndarray,
    free: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """For every neuron a free one of an expert used as often (or nearly), never one twice.

    A neuron of a shared expert is replaced by another of it.
    """
    expert_of = np.minimum(free // max(1, experts.width), experts.number)
    wanted = np.minimum(taken // max(1, experts.width), experts.number)
    used = np.append(use, np.inf)  # the shared expert: used by every token, and like no other
    left = np.ones(len(free), dtype=bool)
    drawn = []
    for expert in wanted.tolist():
        far = np.abs(used[expert_of] - used[expert]) if expert < experts.number else None
        if far is None:
            far = (expert_of != experts.number).astype(float)
        far = np.where(left, np.nan_to_num(far, posinf=1e9), np.inf)
        near = np.flatnonzero(far <= far.min() + 0.02)
        chosen = rng.choice(near)
        left[chosen] = False
        drawn.append(free[chosen])
    return np.array(drawn)


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
