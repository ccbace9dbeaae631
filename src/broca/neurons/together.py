"""Matched random sets for several sets at once: none of them holds a neuron of any of the sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_

import numpy as np

from broca.neurons.draw import UNIT_SITES
from broca.neurons.neuron_set import NeuronSet
from broca.neurons.sites import CODES, Neuron

Unit = tuple[str, int, int]
"""Kind, layer and index: gate i, up i and hidden i of a layer are one unit."""


def matched_together(sets: Sequence[NeuronSet], seed: int) -> list[NeuronSet]:
    """A matched random set for each of several sets, drawn outside of all of them.

    1. The union of the sets is matched as :meth:`NeuronSet.matched_random` matches one set.
    2. Units of the union and of the draw that have the same sites in the same layer are paired.
    3. Each set's draw consists of the partners of its own neurons: what two sets share, their
       draws share too.

    Of one set, the draw is that of ``matched_random``.

    Args:
        sets: Neuron sets of one model; none may be empty.
        seed: Seed of the draw.

    Raises:
        NeuronError: If a layer has too few neurons outside the sets, or the models differ in shape.
    """
    if len(sets) == 1:
        return [sets[0].matched_random(seed)]
    union = reduce(or_, sets)
    drawn = union.matched_random(seed)
    partner = _partners(union, drawn)
    return [_partners_of(neurons, partner, drawn) for neurons in sets]


def _partners(union: NeuronSet, drawn: NeuronSet) -> dict[Neuron, Neuron]:
    """Neuron -> the neuron drawn in its place."""
    as_units = bool(drawn.settings["units"])
    ours, theirs = _by_shape(union, as_units), _by_shape(drawn, as_units)
    found: dict[Neuron, Neuron] = {}
    for shape, units in ours.items():
        for one, other in zip(units, theirs[shape], strict=True):
            found |= dict(zip(one, other, strict=True))
    return found


def _by_shape(neurons: Iterable[Neuron], as_units: bool) -> dict[Hashable, list[list[Neuron]]]:
    """Units by layer and by which sites of them there are, each as its neurons by site."""
    units: dict[Unit, list[Neuron]] = defaultdict(list)
    for neuron in neurons:
        kind = "unit" if as_units and neuron.site in UNIT_SITES else neuron.site
        units[kind, neuron.layer, neuron.index].append(neuron)
    shapes: dict[Hashable, list[list[Neuron]]] = defaultdict(list)
    for (_, layer, _), members in units.items():
        members = sorted(members)
        shapes[layer, tuple(member.site for member in members)].append(members)
    return shapes


def _partners_of(neurons: NeuronSet, partner: dict[Neuron, Neuron], drawn: NeuronSet) -> NeuronSet:
    found = [partner[neuron] for neuron in neurons]
    return replace(
        neurons,
        sites=np.array([CODES[n.site] for n in found], np.int8),
        layers=np.array([n.layer for n in found], np.int32),
        indices=np.array([n.index for n in found], np.int32),
        scores=np.full(len(found), np.nan),
        name=f"{neurons.name}/matched-{drawn.settings['seed']}",
        method="matched-random",
        settings=drawn.settings,
    )
