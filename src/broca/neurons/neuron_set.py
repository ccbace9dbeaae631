"""Neuron sets: neurons in rank order with where they come from, and what is done with them."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from broca.errors import NeuronError
from broca.neurons.digest import short_hash
from broca.neurons.draw import Places, draw_active, draw_matched
from broca.neurons.elsewhere import hook_name
from broca.neurons.identity import ModelIdentity
from broca.neurons.set_file import fields_of, read_content, write_set
from broca.neurons.sites import CODES, SITES, Neuron, check_place, check_site
from broca.tabular import Columns, Tabular

if TYPE_CHECKING:
    from broca.neurons.index import NeuronIndex

# A gated unit i of a layer is one thing seen from three tensors.
_UNIT_SITES = (CODES["gate"], CODES["up"], CODES["hidden"])


class WeightsDifferWarning(UserWarning):
    """A neuron set was found in other weights of the same shape (a sibling or an edited copy)."""


class Overlap(NamedTuple):
    """How much two sets share: count, share of the smaller, Jaccard, count expected by chance."""

    count: int
    of_smaller: float
    jaccard: float
    expected: float


@dataclass(frozen=True, eq=False)
class NeuronSet(Tabular):
    """Neurons of one model in rank order, with where they come from.

    Attributes:
        identity: The model in which they were found.
        sites: Codes into :data:`SITES`, [neuron].
        layers: [neuron].
        indices: [neuron].
        scores: The score that ranked each neuron (NaN where there is none), [neuron].
        name: What the set is for, e.g. a relation.
        method: How it was found.
        settings: The settings of that method.
        data_hash: Hash of the data it was found on.
    """

    identity: ModelIdentity
    sites: np.ndarray
    layers: np.ndarray
    indices: np.ndarray
    scores: np.ndarray
    name: str = ""
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_hash: str = ""

    def __post_init__(self) -> None:
        lengths = {len(a) for a in (self.sites, self.layers, self.indices, self.scores)}
        if len(lengths) != 1:
            raise NeuronError("The arrays of a neuron set differ in length", self.name or None)
        for array in (self.sites, self.layers, self.indices):
            if len(array) and not np.issubdtype(array.dtype, np.integer):
                raise NeuronError(
                    f"A neuron's place is no whole number: {array[0]!r}", self.name or None
                )
        for code in np.unique(self.sites):
            here = self.sites == code
            if not self._inside(SITES[code], self.layers[here], self.indices[here]):
                width = self.identity.width(SITES[code])
                raise NeuronError(
                    f"A neuron of site {SITES[code]!r} lies outside the model",
                    self.name or None,
                    f"{self.identity.id} has layers 0-{self.identity.n_layers - 1} and "
                    f"indices 0-{width - 1} there (layers may have fewer or none).",
                )
        if len(set(self._keys())) != len(self):
            raise NeuronError("A neuron occurs twice in one set", self.name or None)

    def _inside(self, site: str, layers: np.ndarray, indices: np.ndarray) -> bool:
        if (layers < 0).any() or (layers >= self.identity.n_layers).any() or (indices < 0).any():
            return False
        return bool((indices < np.array(self.identity.layer_widths(site))[layers]).all())

    @classmethod
    def of(cls, neurons: Iterable[Neuron], identity: ModelIdentity, **about: Any) -> NeuronSet:
        """Make a set of single neurons, in the order given."""
        listed = [check_place(neuron) for neuron in neurons]
        return cls(
            identity,
            np.array([CODES[n.site] for n in listed], dtype=np.int8),
            np.array([n.layer for n in listed], dtype=np.int32),
            np.array([n.index for n in listed], dtype=np.int32),
            np.full(len(listed), np.nan),
            **about,
        )

    def _keys(self) -> list[tuple[int, int, int]]:
        return list(
            zip(self.sites.tolist(), self.layers.tolist(), self.indices.tolist(), strict=True)
        )

    def __len__(self) -> int:
        return len(self.sites)

    def __iter__(self) -> Iterator[Neuron]:
        for site, layer, index in self._keys():
            yield Neuron(SITES[site], layer, index)

    def __contains__(self, neuron: object) -> bool:
        return isinstance(neuron, tuple) and neuron in set(self)

    def __repr__(self) -> str:
        about = f" {self.name!r}" if self.name else ""
        return f"<NeuronSet{about}: {len(self):,} neurons of {self.identity.id}>"

    def columns(self, limit: int | None = None) -> Columns:
        """Rank, site, layer, index, score, and the hook of TransformerLens ("" in experts)."""
        keys = self._keys()[:limit]
        return {
            "rank": list(range(1, len(keys) + 1)),
            "site": [SITES[code] for code, _, _ in keys],
            "layer": [layer for _, layer, _ in keys],
            "index": [index for _, _, index in keys],
            "score": self.scores[:limit].astype(float).tolist(),
            "hook": self.hook_names(limit),
        }

    def hook_names(self, limit: int | None = None) -> list[str]:
        """The hook of TransformerLens at which each neuron passes; see `neurons.elsewhere`."""
        gated = "gate" in self.identity.widths
        return [
            ""
            if self.identity.expert_of(SITES[code], layer, index)
            else hook_name(SITES[code], layer, gated=gated)
            for code, layer, index in self._keys()[:limit]
        ]

    # ---- parts of a set

    def take(self, rows: np.ndarray | slice, **changes: Any) -> NeuronSet:
        """The neurons at some ranks, in the order given."""
        return replace(
            self,
            sites=self.sites[rows],
            layers=self.layers[rows],
            indices=self.indices[rows],
            scores=self.scores[rows],
            **changes,
        )

    def top(self, k: int) -> NeuronSet:
        """The first ``k`` neurons.

        Raises:
            NeuronError: If the set has fewer.
        """
        return self.ranks(0, k)

    def ranks(self, start: int, stop: int) -> NeuronSet:
        """The neurons of ranks ``start`` (included) to ``stop`` (excluded)."""
        if not 0 <= start <= stop <= len(self):
            raise NeuronError(
                f"Ranks {start} to {stop} do not exist",
                self.name or None,
                f"The set has {len(self)} neurons.",
            )
        return self.take(slice(start, stop))

    def only(self, *, site: str | None = None, layer: int | None = None) -> NeuronSet:
        """The neurons of one site, one layer, or both."""
        keep = np.ones(len(self), dtype=bool)
        if site is not None:
            keep &= self.sites == CODES[check_site(site)]
        if layer is not None:
            keep &= self.layers == layer
        return self.take(keep)

    def where(self, site: str, layer: int) -> np.ndarray:
        """Ranks of the neurons of one site and layer, [neuron]."""
        return np.flatnonzero((self.sites == CODES[check_site(site)]) & (self.layers == layer))

    def _meet(self, other: NeuronSet, *, inside: bool) -> NeuronSet:
        self._same_shape(other)
        theirs = set(other._keys())
        return self.take(np.array([(key in theirs) == inside for key in self._keys()], dtype=bool))

    def __and__(self, other: NeuronSet) -> NeuronSet:
        return self._meet(other, inside=True)

    def __sub__(self, other: NeuronSet) -> NeuronSet:
        return self._meet(other, inside=False)

    def __or__(self, other: NeuronSet) -> NeuronSet:
        new = other - self
        both = zip(
            (self.sites, self.layers, self.indices, self.scores),
            (new.sites, new.layers, new.indices, new.scores),
            strict=True,
        )
        sites, layers, indices, scores = (np.concatenate(pair) for pair in both)
        return replace(self, sites=sites, layers=layers, indices=indices, scores=scores)

    def _same_shape(self, other: NeuronSet) -> None:
        if self.identity.shape != other.identity.shape:
            raise NeuronError(
                "Two sets come from models of different shape",
                f"{self.identity.id} and {other.identity.id}",
            )

    # ---- figures about a set

    def counts(self) -> dict[tuple[str, int], int]:
        """Neurons per (site, layer)."""
        pairs = Counter(zip(self.sites.tolist(), self.layers.tolist(), strict=True))
        return {(SITES[site], layer): n for (site, layer), n in sorted(pairs.items())}

    @cached_property
    def places(self) -> Mapping[tuple[str, int], tuple[np.ndarray, np.ndarray]]:
        """(site, layer) -> indices of its neurons there and their ranks in the set, int64 each."""
        order = np.lexsort((self.layers, self.sites))  # stable: ranks rise within a layer
        counts, indices = self.counts(), self.indices.astype(np.int64)
        stops = np.cumsum(list(counts.values()), dtype=int).tolist()
        parts = [order[stop - n : stop] for stop, n in zip(stops, counts.values(), strict=True)]
        return {place: (indices[ranks], ranks) for place, ranks in zip(counts, parts, strict=True)}

    @property
    def n_units(self) -> int:
        """Distinct units: gate i, up i and hidden i of one layer switch the same gated unit."""
        units = {(-1 if s in _UNIT_SITES else s, layer, i) for s, layer, i in self._keys()}
        return len(units)

    def overlap(self, other: NeuronSet) -> Overlap:
        """Shared neurons of two sets; chance is two uniform draws over their common sites."""
        self._same_shape(other)
        count = len(self & other)
        smaller, union = min(len(self), len(other)), len(self) + len(other) - count
        sites = {SITES[code] for code in np.unique(np.concatenate([self.sites, other.sites]))}
        total = sum(self.identity.total(site) for site in sites)
        return Overlap(
            count,
            count / smaller if smaller else 0.0,
            count / union if union else 0.0,
            len(self) * len(other) / total if total else 0.0,
        )

    def matched_random(self, seed: int) -> NeuronSet:
        """Random neurons outside the set, with the same count per site and layer.

        They are drawn as units: gate, up and hidden of one index are one thing, so a unit that the
        set holds any part of is left out whole. Where a layer has too few units for that, neurons
        are drawn site by site, and `settings["units"]` is False.

        Raises:
            NeuronError: If a layer has too few neurons outside the set.
        """
        try:
            places, units = draw_matched(self, seed), True
        except NeuronError:
            places, units = draw_matched(self, seed, units=False), False
        return self._drawn(places, "matched", {"seed": seed, "units": units})

    def active_random(self, index: NeuronIndex, activity: np.ndarray, seed: int) -> NeuronSet:
        """Random neurons outside the set that are as active, site by site and layer by layer.

        Args:
            index: All neurons.
            activity: Mean |response| of each, [neuron of the index].
            seed: Seed of the draw.

        Raises:
            NeuronError: If a layer has too few neurons outside the set.
        """
        return self._drawn(draw_active(self, index, activity, seed), "active", {"seed": seed})

    def _drawn(self, places: Places, kind: str, settings: Mapping[str, Any]) -> NeuronSet:
        sites, layers, indices = places
        return replace(
            self,
            sites=sites,
            layers=layers,
            indices=indices,
            scores=np.full(len(sites), np.nan),
            name=f"{self.name}/{kind}-{settings['seed']}",
            method=f"{kind}-random",
            settings=settings,
        )

    @cached_property
    def digest(self) -> str:
        """Hash of which neurons are in the set, whatever their order, scores or names."""
        return short_hash(json.dumps(sorted(self._keys())))

    # ---- belonging and storing

    def check(self, identity: ModelIdentity) -> None:
        """Make sure that this set can be applied to a model.

        Raises:
            NeuronError: If the model has another shape.

        Warns:
            WeightsDifferWarning: If the shape is the same and the weights are not.
        """
        if self.identity.shape != identity.shape:
            raise NeuronError(
                f"The set was found in {self.identity.id}, a model of another shape",
                self.name or None,
                f"Find neurons in {identity.id} itself.",
            )
        if self.identity.fingerprint != identity.fingerprint:
            warnings.warn(
                f"the set {self.name!r} was found in other weights ({self.identity.id}) than "
                f"those it is applied to ({identity.id})",
                WeightsDifferWarning,
                stacklevel=3,
            )

    def save(self, path: str | Path) -> Path:
        """Write the set as JSON, beside the target first and then renamed."""
        return write_set(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> NeuronSet:
        """Read a set written by :meth:`save`.

        Raises:
            NeuronError: If the file is missing, malformed or of a newer format.
        """
        return cls(**fields_of(read_content(Path(path)), str(path)))
