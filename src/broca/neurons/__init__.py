"""Neurons and neuron sets: the value that every other part of broca hands on.

`sites` says what a neuron is, `identity` which model it belongs to; `index` puts all neurons of a
model in one line, `neuron_set` holds some of them, `set_file` writes them, `draw` and `together`
draw controls.
"""

from __future__ import annotations

from broca.neurons.digest import digest_of
from broca.neurons.draw import uniform_random
from broca.neurons.elsewhere import hook_name
from broca.neurons.identity import Experts, ModelIdentity
from broca.neurons.index import NeuronIndex
from broca.neurons.neuron_set import NeuronSet, Overlap, WeightsDifferWarning
from broca.neurons.set_file import FORMAT_VERSION
from broca.neurons.sites import SITES, Neuron, check_site, ordered_sites
from broca.neurons.together import matched_together

__all__ = [
    "FORMAT_VERSION",
    "SITES",
    "Experts",
    "ModelIdentity",
    "Neuron",
    "NeuronIndex",
    "NeuronSet",
    "Overlap",
    "WeightsDifferWarning",
    "check_site",
    "digest_of",
    "hook_name",
    "matched_together",
    "ordered_sites",
    "uniform_random",
]
