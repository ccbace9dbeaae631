"""The sites of a decoder block, and one neuron.

A neuron is (site, layer, index), counted from 0. The sites are the tensors of a decoder block:

=========  ===========================================================  =======
site       tensor                                                       width
=========  ===========================================================  =======
gate       output of the gate projection, before the activation         d_ff
up         output of the up projection (plain MLP: its input product)   d_ff
hidden     input of the down projection                                 d_ff
down       output of the down projection                                d_model
q k v o    outputs of the attention projections                         varies
=========  ===========================================================  =======
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import NamedTuple

from broca.errors import NeuronError
from broca.neurons.elsewhere import hook_name

SITES = ("gate", "up", "hidden", "down", "q", "k", "v", "o")

CODES = {site: code for code, site in enumerate(SITES)}
"""Site -> its number in arrays."""


class Neuron(NamedTuple):
    """One neuron: its site, layer and index, each counted from 0."""

    site: str
    layer: int
    index: int

    def __str__(self) -> str:
        return f"{self.site}:{self.layer}:{self.index}"

    def hook_name(self, *, gated: bool = True) -> str:
        """The hook of TransformerLens where it passes; see :func:`broca.neurons.hook_name`."""
        return hook_name(self.site, self.layer, gated=gated)

    @classmethod
    def parse(cls, text: str) -> Neuron:
        """Read ``"hidden:17:403"``.

        Raises:
            NeuronError: If the text is not of that form or the site is unknown.
        """
        parts = text.strip().split(":")
        places = parts[1:]
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in places):
            raise NeuronError(
                f"{text!r} is not a neuron",
                mend="Write it as site:layer:index, e.g. hidden:17:403.",
            )
        check_site(parts[0])
        return cls(parts[0], int(parts[1]), int(parts[2]))


def check_place(neuron: Neuron) -> Neuron:
    """Return a neuron unchanged if its site is known and its layer and index whole numbers.

    Raises:
        NeuronError: If not; 1.5, "1" and True are no whole numbers.
    """
    check_site(neuron.site)
    for number in (neuron.layer, neuron.index):
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or not 0 <= int(number) < 2**31:
            raise NeuronError(
                f"{number!r} is no layer and no index of a neuron",
                str(neuron),
                "Both are whole numbers, counted from 0",
            )
    return neuron


def check_site(site: str) -> str:
    """Return ``site`` unchanged if it is one of :data:`SITES`.

    Raises:
        NeuronError: If it is not.
    """
    if site not in CODES:
        raise NeuronError(f"Unknown site {site!r}", mend=f"The sites are {', '.join(SITES)}.")
    return site


def ordered_sites(sites: Iterable[str]) -> tuple[str, ...]:
    """The given sites without repetition, in the order of :data:`SITES`."""
    wanted = {check_site(site) for site in sites}
    return tuple(site for site in SITES if site in wanted)
