"""One score per neuron, however it was found, and the neurons of the highest score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from broca.errors import ScoreError
from broca.neurons import SITES, NeuronIndex, NeuronSet, ordered_sites
from broca.tabular import Columns, Tabular


@dataclass(frozen=True, eq=False)
class NeuronScores(Tabular):
    """One score per neuron of an index.

    Attributes:
        index: The neurons.
        values: float64 [neuron], in the order of the index.
        method: How they were scored.
        settings: The settings of that method.
        data_hash: Hash of the prompts and labels they were scored on.
    """

    index: NeuronIndex
    values: np.ndarray
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_hash: str = ""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.index),):
            raise ScoreError(f"{self.values.shape} scores for {len(self.index)} neurons")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        low, high = (float(end) for end in (self.values.min(), self.values.max()))
        sites = ", ".join(self.index.sites)
        return (
            f"<NeuronScores {self.method}: {len(self):,} neurons ({sites}) of "
            f"{self.index.identity.id}, {low:.3g} to {high:.3g}>"
        )

    def columns(self, limit: int | None = None) -> Columns:
        """Site, layer, index and score of every neuron; with a limit, of the best."""
        flat = np.arange(len(self))
        if limit is not None:
            flat = np.argsort(-self.values, kind="stable")[:limit]
        sites, layers, indices = self.index.locate(flat)
        return {
            "site": [SITES[code] for code in sites.tolist()],
            "layer": layers.tolist(),
            "index": indices.tolist(),
            "score": self.values[flat].astype(float).tolist(),
        }

    def top(
        self,
        k: int,
        *,
        name: str = "",
        sites: Sequence[str] | None = None,
        ties: Literal["spread", "order"] = "spread",
    ) -> NeuronSet:
        """The k neurons of the highest score.

        The set's settings tell how many neurons have the score of the last one (`tied`) and how
        many of these are in the set (`tied_in`): between them the choice is arbitrary.

        Args:
            k: How many.
            name: Name of the set, e.g. the relation.
            sites: Rank only the neurons of these sites (the top k within gate, say).
            ties: "spread" breaks ties by a hash of each neuron's place, so that no site or layer
                is favoured; "order" by site, layer and index.

        Raises:
            ScoreError: If there are fewer than k neurons, or k is below 1.
        """
        wanted = ordered_sites(sites) if sites is not None else self.index.sites
        spans = [self.index.site_slice(site) for site in wanted]
        flat = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        if not 1 <= k <= len(flat):
            raise ScoreError(
                f"The top {k} of {len(flat)} neurons do not exist",
                where=name or None,
                mend=f"Choose k between 1 and {len(flat)}.",
            )
        values = self.values[flat]
        last = np.partition(-values, k - 1)[k - 1]  # NaN, which sorts last, where too few are more
        near = flat if np.isnan(last) else flat[-values <= last]
        second = near if ties == "order" else _place_hash(*self.index.locate(near))
        ranked = near[np.lexsort((second, -self.values[near]))[:k]]
        border = self.values[ranked[-1]]
        tied = int(np.count_nonzero(values == border))
        tied_in = int(np.count_nonzero(self.values[ranked] == border))
        return self.index.select(
            ranked,
            self.values[ranked],
            name=name,
            method=self.method,
            settings={
                **self.settings,
                "k": k,
                "sites": list(wanted),
                "ties": ties,
                "tied": tied,
                "tied_in": tied_in,
            },
            data_hash=self.data_hash,
        )


def _place_hash(sites: np.ndarray, layers: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A number per neuron that has nothing to do with where it is (splitmix64), uint64 [neuron]."""
    key = sites.astype(np.uint64) << np.uint64(52)
    key += (layers.astype(np.uint64) << np.uint64(32)) + indices.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return key ^ (key >> np.uint64(31))
