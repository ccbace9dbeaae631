"""Neurons and neuron sets: the value that every other part of broca hands on.

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

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from broca.errors import NeuronError, RunError

SITES = ("gate", "up", "hidden", "down", "q", "k", "v", "o")
FORMAT_VERSION = 1

_CODES = {site: code for code, site in enumerate(SITES)}
# A gated unit i of a layer is one thing seen from three tensors.
_UNIT_SITES = (_CODES["gate"], _CODES["up"], _CODES["hidden"])


class WeightsDifferWarning(UserWarning):
    """A neuron set was found in other weights of the same shape (a sibling or an edited copy)."""


class Neuron(NamedTuple):
    """One neuron: its site, layer and index, each counted from 0."""

    site: str
    layer: int
    index: int

    def __str__(self) -> str:
        return f"{self.site}:{self.layer}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> Neuron:
        """Read ``"hidden:17:403"``.

        Raises:
            NeuronError: If the text is not of that form or the site is unknown.
        """
        parts = text.strip().split(":")
        if len(parts) != 3 or not parts[1].isdigit() or not parts[2].isdigit():
            raise NeuronError(
                f"{text!r} is not a neuron",
                mend="Write it as site:layer:index, e.g. hidden:17:403.",
            )
        check_site(parts[0])
        return cls(parts[0], int(parts[1]), int(parts[2]))


def check_site(site: str) -> str:
    """Return ``site`` unchanged if it is one of :data:`SITES`.

    Raises:
        NeuronError: If it is not.
    """
    if site not in _CODES:
        raise NeuronError(f"Unknown site {site!r}", mend=f"The sites are {', '.join(SITES)}.")
    return site


def ordered_sites(sites: Iterable[str]) -> tuple[str, ...]:
    """The given sites without repetition, in the order of :data:`SITES`."""
    wanted = {check_site(site) for site in sites}
    return tuple(site for site in SITES if site in wanted)


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
        return self.identity.n_layers * sum(self.identity.width(site) for site in self.sites)

    def blocks(self) -> Iterator[tuple[str, int, slice]]:
        """Yield (site, layer, slice of flat positions), in order."""
        start = 0
        for site in self.sites:
            width = self.identity.width(site)
            for layer in range(self.identity.n_layers):
                yield site, layer, slice(start, start + width)
                start += width

    def block_slice(self, site: str, layer: int) -> slice:
        """Flat positions of the neurons of one site and layer."""
        start = 0
        for other in self.sites:
            width = self.identity.width(other)
            if other == site:
                return slice(start + layer * width, start + (layer + 1) * width)
            start += width * self.identity.n_layers
        raise NeuronError(f"Site {site!r} is not in this index", mend=f"It has {self.sites}.")

    def locate(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Site codes (into :data:`SITES`), layers and indices of flat positions, each [neuron]."""
        flat = np.asarray(flat, dtype=np.int64)
        widths = np.array([self.identity.width(site) for site in self.sites], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(widths * self.identity.n_layers)])
        which = np.searchsorted(starts, flat, side="right") - 1
        inside = flat - starts[which]
        codes = np.array([_CODES[site] for site in self.sites], dtype=np.int8)
        return (
            codes[which],
            (inside // widths[which]).astype(np.int32),
            (inside % widths[which]).astype(np.int32),
        )

    def flatten(self, neurons: NeuronSet) -> np.ndarray:
        """Flat positions [neuron] of a set's neurons, in rank order."""
        flat = np.empty(len(neurons), dtype=np.int64)
        for code in np.unique(neurons.sites):
            here = neurons.sites == code
            site = SITES[code]
            start = self.block_slice(site, 0).start
            width = self.identity.width(site)
            flat[here] = start + neurons.layers[here].astype(np.int64) * width
            flat[here] += neurons.indices[here]
        return flat

    def select(self, flat: np.ndarray, scores: np.ndarray | None = None, **about: Any) -> NeuronSet:
        """Make a :class:`NeuronSet` of flat positions in rank order."""
        sites, layers, indices = self.locate(flat)
        if scores is None:
            scores = np.full(len(sites), np.nan)
        return NeuronSet(self.identity, sites, layers, indices, np.asarray(scores, float), **about)


class Overlap(NamedTuple):
    """How much two sets share: count, share of the smaller, Jaccard, count expected by chance."""

    count: int
    of_smaller: float
    jaccard: float
    expected: float


@dataclass(frozen=True, eq=False)
class NeuronSet:
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
        for code in np.unique(self.sites):
            here = self.sites == code
            width = self.identity.width(SITES[code])
            if (
                (self.layers[here] < 0).any()
                or (self.layers[here] >= self.identity.n_layers).any()
                or (self.indices[here] < 0).any()
                or (self.indices[here] >= width).any()
            ):
                raise NeuronError(
                    f"A neuron of site {SITES[code]!r} lies outside the model",
                    self.name or None,
                    f"{self.identity.id} has layers 0-{self.identity.n_layers - 1} and "
                    f"indices 0-{width - 1} there.",
                )
        if len(set(self._keys())) != len(self):
            raise NeuronError("A neuron occurs twice in one set", self.name or None)

    @classmethod
    def of(cls, neurons: Iterable[Neuron], identity: ModelIdentity, **about: Any) -> NeuronSet:
        """Make a set of single neurons, in the order given."""
        listed = list(neurons)
        return cls(
            identity,
            np.array([_CODES[check_site(n.site)] for n in listed], dtype=np.int8),
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
        return f"<NeuronSet{about}: {len(self)} neurons of {self.identity.id}>"

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
            keep &= self.sites == _CODES[check_site(site)]
        if layer is not None:
            keep &= self.layers == layer
        return self.take(keep)

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
        total = sum(self.identity.width(site) for site in sites) * self.identity.n_layers
        return Overlap(
            count,
            count / smaller if smaller else 0.0,
            count / union if union else 0.0,
            len(self) * len(other) / total if total else 0.0,
        )

    def matched_random(self, seed: int) -> NeuronSet:
        """Random neurons outside the set, with the same count per site and layer.

        Raises:
            NeuronError: If a layer has too few neurons outside the set.
        """
        rng = np.random.default_rng([seed, 0xB0CA])
        sites, layers, indices = [], [], []
        for (site, layer), n in self.counts().items():
            taken = self.only(site=site, layer=layer).indices
            free = np.setdiff1d(np.arange(self.identity.width(site)), taken)
            if len(free) < n:
                raise NeuronError(
                    f"Only {len(free)} neurons of {site} in layer {layer} lie outside the set",
                    self.name or None,
                    f"A matched random set needs {n}: choose a smaller k.",
                )
            indices.append(np.sort(rng.choice(free, n, replace=False)))
            sites.append(np.full(n, _CODES[site]))
            layers.append(np.full(n, layer))
        join = lambda parts, kind: np.concatenate(parts or [np.empty(0)]).astype(kind)  # noqa: E731
        return replace(
            self,
            sites=join(sites, np.int8),
            layers=join(layers, np.int32),
            indices=join(indices, np.int32),
            scores=np.full(len(self), np.nan),
            name=f"{self.name}/matched-{seed}",
            method="matched-random",
            settings={"seed": seed},
        )

    @cached_property
    def digest(self) -> str:
        """Hash of which neurons are in the set, whatever their order, scores or names."""
        text = json.dumps(sorted(self._keys()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

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
        path = Path(path)
        identity = {
            "id": self.identity.id,
            "fingerprint": self.identity.fingerprint,
            "n_layers": self.identity.n_layers,
            "widths": dict(self.identity.widths),
        }
        content = {
            "format": "broca.neuron-set",
            "version": FORMAT_VERSION,
            "name": self.name,
            "model": identity,
            "method": self.method,
            "settings": dict(self.settings),
            "data_hash": self.data_hash,
            "site": [SITES[code] for code in self.sites],
            "layer": self.layers.tolist(),
            "index": self.indices.tolist(),
            "score": [None if np.isnan(s) else s for s in self.scores.tolist()],
        }
        beside = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(content), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise RunError("Cannot write a neuron set", str(path), str(error)) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> NeuronSet:
        """Read a set written by :meth:`save`.

        Raises:
            NeuronError: If the file is missing, malformed or of a newer format.
        """
        content = _read_json(Path(path))
        if content.get("format") != "broca.neuron-set":
            raise NeuronError("This is not a neuron set", str(path), "Pass a file of sets/*.json.")
        if content.get("version") != FORMAT_VERSION:
            raise NeuronError(
                f"The set has format version {content.get('version')}",
                str(path),
                f"This broca reads version {FORMAT_VERSION}.",
            )
        try:
            model = content["model"]
            identity = ModelIdentity(
                model["id"], model["fingerprint"], int(model["n_layers"]), dict(model["widths"])
            )
            codes = [_CODES[check_site(site)] for site in content["site"]]
            scores = [np.nan if s is None else float(s) for s in content["score"]]
            return cls(
                identity,
                np.array(codes, dtype=np.int8),
                np.array(content["layer"], dtype=np.int32),
                np.array(content["index"], dtype=np.int32),
                np.array(scores, dtype=np.float64),
                name=content["name"],
                method=content["method"],
                settings=content["settings"],
                data_hash=content["data_hash"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NeuronError(f"The set is malformed: {error!r}", str(path)) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NeuronError("Cannot read a neuron set", str(path), "Does the file exist?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NeuronError(f"Malformed JSON: {error}", str(path)) from error
    if not isinstance(content, dict):
        raise NeuronError("This is not a neuron set", str(path), "Pass a file of sets/*.json.")
    return content


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


def digest_of(items: Sequence[Any]) -> str:
    """Short hash of JSON-able values, for the provenance of sets and conditions."""
    text = json.dumps(items, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
