"""The file of a neuron set: JSON, its arrays parallel and in rank order (docs/files.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from broca.errors import NeuronError, RunError
from broca.neurons.identity import ModelIdentity
from broca.neurons.sites import CODES, SITES, check_site

if TYPE_CHECKING:
    from broca.neurons.neuron_set import NeuronSet

FORMAT_VERSION = 1


def write_set(neurons: NeuronSet, path: Path) -> Path:
    """Write beside the target first, then rename.

    Raises:
        RunError: If the file cannot be written.
    """
    identity = {
        "id": neurons.identity.id,
        "fingerprint": neurons.identity.fingerprint,
        "n_layers": neurons.identity.n_layers,
        "widths": dict(neurons.identity.widths),
    }
    content = {
        "format": "broca.neuron-set",
        "version": FORMAT_VERSION,
        "name": neurons.name,
        "model": identity,
        "method": neurons.method,
        "settings": dict(neurons.settings),
        "data_hash": neurons.data_hash,
        "site": [SITES[code] for code in neurons.sites],
        "layer": neurons.layers.tolist(),
        "index": neurons.indices.tolist(),
        "score": [None if np.isnan(s) else s for s in neurons.scores.tolist()],
    }
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(content), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise RunError("Cannot write a neuron set", str(path), str(error)) from error
    return path


def read_content(path: Path) -> dict[str, Any]:
    """The content of a file that says it is a neuron set of this format.

    Raises:
        NeuronError: If the file is missing, no neuron set, or of a newer format.
    """
    content = _read_json(path)
    if content.get("format") != "broca.neuron-set":
        raise NeuronError("This is not a neuron set", str(path), "Pass a file of sets/*.json.")
    if content.get("version") != FORMAT_VERSION:
        raise NeuronError(
            f"The set has format version {content.get('version')}",
            str(path),
            f"This broca reads version {FORMAT_VERSION}.",
        )
    return content


def fields_of(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a :class:`NeuronSet`, of the types it has.

    Raises:
        KeyError, TypeError, ValueError: If the content is malformed.
        NeuronError: If it names an unknown site.
    """
    model = content["model"]
    identity = ModelIdentity(
        model["id"], model["fingerprint"], int(model["n_layers"]), dict(model["widths"])
    )
    codes = [CODES[check_site(site)] for site in content["site"]]
    scores = [np.nan if s is None else float(s) for s in content["score"]]
    return {
        "identity": identity,
        "sites": np.array(codes, dtype=np.int8),
        "layers": np.array(content["layer"], dtype=np.int32),
        "indices": np.array(content["index"], dtype=np.int32),
        "scores": np.array(scores, dtype=np.float64),
        **{name: content[name] for name in ("name", "method", "settings", "data_hash")},
    }


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
