"""The file of a neuron set: JSON, its arrays parallel and in rank order (docs/files.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from broca.errors import NeuronError, RunError
from broca.neurons.identity import ModelIdentity
from broca.neurons.sites import CODES, SITES
from broca.reading import parse_json, read_text

if TYPE_CHECKING:
    from broca.neurons.neuron_set import NeuronSet

FORMAT_VERSION = 1


def content_of(neurons: NeuronSet) -> dict[str, Any]:
    """What the file of a set holds, plain values."""
    return {
        "format": "broca.neuron-set",
        "version": FORMAT_VERSION,
        "name": neurons.name,
        "model": neurons.identity.to_dict(),
        "method": neurons.method,
        "settings": dict(neurons.settings),
        "data_hash": neurons.data_hash,
        "site": [SITES[code] for code in neurons.sites],
        "layer": neurons.layers.tolist(),
        "index": neurons.indices.tolist(),
        "score": [s if np.isfinite(s) else None for s in neurons.scores.tolist()],
    }


def write_set(neurons: NeuronSet, path: Path) -> Path:
    """Write beside the target first, then rename.

    Raises:
        RunError: If the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(content_of(neurons)), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise RunError("Cannot write a neuron set", str(path), str(error)) from error
    return path


def read_content(path: Path) -> dict[str, Any]:
    """The content of a file that says it is a neuron set of this format.

    Raises:
        NeuronError: If the file is missing, no neuron set, or of a newer format.
    """
    content = parse_json(read_text(path, NeuronError), str(path), NeuronError)
    if not isinstance(content, dict) or content.get("format") != "broca.neuron-set":
        raise NeuronError("This is not a neuron set", str(path), "Pass a file of sets/*.json.")
    version = content.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise NeuronError(
            f"The set has format version {version!r}",
            str(path),
            f"This broca reads version {FORMAT_VERSION}.",
        )
    return content


def _site(name: str) -> str:
    if name not in SITES:
        raise ValueError(f"unknown site {name!r}; the sites are {', '.join(SITES)}")
    return name


_Place = Annotated[int, Field(ge=0, lt=2**31)]
_Number = Annotated[int, Field(ge=1, lt=2**31)]


class _Model(BaseModel, extra="forbid", strict=True):
    id: str
    fingerprint: str
    n_layers: Annotated[int, Field(ge=1, lt=2**31)]
    widths: dict[Annotated[str, AfterValidator(_site)], _Number | list[_Place]]
    experts: list[tuple[_Place, _Place]] = []

    @model_validator(mode="after")
    def _one_per_layer(self) -> _Model:
        per_layer = [w for w in self.widths.values() if isinstance(w, list)]
        if any(len(listed) != self.n_layers for listed in [*per_layer, self.experts] if listed):
            raise ValueError("widths and experts have one entry per layer")
        return self


class _Content(BaseModel, strict=True):
    """A neuron set as its file holds it; nothing is converted: 1.5, "1" and true are no index."""

    format: str
    version: int
    name: str
    model: _Model
    method: str
    settings: dict[str, Any]
    data_hash: str
    site: list[Annotated[str, AfterValidator(_site)]]
    layer: list[_Place]
    index: list[_Place]
    score: list[Annotated[float, Field(allow_inf_nan=False)] | None]


def fields_of(content: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of a :class:`NeuronSet`, of the types it has.

    Raises:
        NeuronError: If something is missing, or of another type.
    """
    try:
        read = _Content.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        mend = "Find the set again, or mend the file"
        raise NeuronError(f"The set is malformed: {told}", where, mend) from None
    return {
        "identity": ModelIdentity.from_dict(read.model.model_dump()),
        "sites": np.array([CODES[site] for site in read.site], dtype=np.int8),
        "layers": np.array(read.layer, dtype=np.int32),
        "indices": np.array(read.index, dtype=np.int32),
        "scores": np.array([np.nan if s is None else s for s in read.score], dtype=np.float64),
        **{name: getattr(read, name) for name in ("name", "method", "settings", "data_hash")},
    }
