"""What tells one model under study from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broca.errors import NeuronError
from broca.neurons.sites import check_site


@dataclass(frozen=True)
class ModelIdentity:
    """What tells one model under study from another.

    Attributes:
        id: Name or path the model was loaded from.
        fingerprint: Hash of sampled weights; differs between siblings and edited copies.
        n_layers: Number of decoder blocks.
        widths: Neurons per layer, for every site the model has.
    """

    id: str
    fingerprint: str
    n_layers: int
    widths: Mapping[str, int]

    @property
    def shape(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """Number of layers and widths: equal for models whose neurons can be compared by place."""
        return self.n_layers, tuple(sorted(self.widths.items()))

    def width(self, site: str) -> int:
        """Neurons per layer at ``site``.

        Raises:
            NeuronError: If this model has no such site.
        """
        if check_site(site) not in self.widths:
            raise NeuronError(
                f"{self.id} has no site {site!r}", mend=f"It has {', '.join(self.widths)}."
            )
        return self.widths[site]
