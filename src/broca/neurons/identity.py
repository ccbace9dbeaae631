"""What tells one model under study from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from broca.errors import NeuronError
from broca.neurons.sites import check_site

Widths = int | tuple[int, ...]


class Experts(NamedTuple):
    """The experts of one layer: how many, and neurons of each; (0, 0) where there are none.

    Neuron i of expert e is index e * width + i of its layer. What comes behind the experts are
    the layer's ordinary neurons: those of a shared expert.
    """

    number: int
    width: int


@dataclass(frozen=True)
class ModelIdentity:
    """What tells one model under study from another.

    Attributes:
        id: Name or path the model was loaded from.
        fingerprint: Hash of sampled weights; differs between siblings and edited copies.
        n_layers: Number of decoder blocks.
        widths: Neurons per layer, for every site the model has: one number where all layers are
            alike, else one per layer (0: the layer has no such site).
        experts: Experts per layer, () where no layer has any.
    """

    id: str
    fingerprint: str
    n_layers: int
    widths: Mapping[str, Widths]
    experts: tuple[Experts, ...] = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """Layers, widths, experts: equal for models whose neurons can be compared by place."""
        return self.n_layers, tuple(sorted(self.widths.items())), self.experts

    def width(self, site: str, layer: int | None = None) -> int:
        """Neurons at ``site`` in a layer; without one, in the widest layer.

        Arrays [layer, neuron] have the width of the widest layer.

        Raises:
            NeuronError: If this model has no such site.
        """
        widths = self.layer_widths(site)
        return max(widths) if layer is None else widths[layer]

    def layer_widths(self, site: str) -> tuple[int, ...]:
        """Neurons at ``site`` of every layer.

        Raises:
            NeuronError: If this model has no such site.
        """
        if check_site(site) not in self.widths:
            raise NeuronError(
                f"{self.id} has no site {site!r}", mend=f"It has {', '.join(self.widths)}."
            )
        found = self.widths[site]
        return (found,) * self.n_layers if isinstance(found, int) else tuple(found)

    def total(self, site: str) -> int:
        """Neurons at ``site`` over all layers."""
        return sum(self.layer_widths(site))

    def positions(self, site: str) -> np.ndarray:
        """Where neurons are in a flattened array [layer, neuron], in order."""
        widest = self.width(site)
        rows = [layer * widest + np.arange(n) for layer, n in enumerate(self.layer_widths(site))]
        return np.concatenate(rows)

    def expert_of(self, site: str, layer: int, index: int) -> tuple[int, int] | None:
        """Expert and the neuron's index in it; None for an ordinary neuron."""
        number, width = self.experts[layer] if self.experts else (0, 0)
        if site not in ("gate", "up", "hidden") or index >= number * width:
            return None
        return divmod(index, width)

    # ---- as plain values, for files

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what a model without experts leaves out is left out."""
        widths = {s: w if isinstance(w, int) else list(w) for s, w in self.widths.items()}
        about = {
            "id": self.id,
            "fingerprint": self.fingerprint,
            "n_layers": self.n_layers,
            "widths": widths,
        }
        return {**about, "experts": [list(e) for e in self.experts]} if self.experts else about

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> ModelIdentity:
        """Read what :meth:`to_dict` wrote, or a file from before layers could differ.

        Raises:
            KeyError, TypeError, ValueError: If the content is malformed.
        """
        n_layers = int(about["n_layers"])
        widths = {
            site: int(w) if isinstance(w, int) else one_if_equal(int(n) for n in w)
            for site, w in about["widths"].items()
        }
        if any(isinstance(w, tuple) and len(w) != n_layers for w in widths.values()):
            raise ValueError("widths per layer differ in number from the layers")
        experts = tuple(Experts(*map(int, one)) for one in about.get("experts", ()))
        return cls(about["id"], about["fingerprint"], n_layers, widths, experts)


def one_if_equal(widths: Iterable[int]) -> Widths:
    """One number where all are equal, else a tuple."""
    listed = tuple(widths)
    return listed[0] if listed and len(set(listed)) == 1 else listed
