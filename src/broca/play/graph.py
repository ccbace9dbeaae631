"""Found neurons as a graph that Neuronpedia's viewer reads.

The format is the viewer's public JSON schema (`graph-schema.json` of the repository
`hijohnnylin/neuronpedia`): metadata, nodes and links. Here every neuron stands at the last
position, with one link to the answer: its exact effect. Links between neurons are not measured,
and Neuronpedia has no dashboards of a model's own neurons, so `clerp` says what each promotes.

A feature's number is the pairing of layer and index that the viewer undoes (Cantor's, as
`schema_version` 1 has it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from broca.model import LanguageModel
from broca.neurons import Neuron
from broca.readout import read_values, token_text
from broca.report.parts.figure import slug


def pair(layer: int, index: int) -> int:
    """Cantor's pairing of two numbers."""
    return (layer + index) * (layer + index + 1) // 2 + index


def graph_of(
    model: LanguageModel,
    text: str,
    target: Sequence[int],
    log_p: float,
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The graph of one prompt.

    Args:
        model: The model under study.
        text: The prompt as the model reads it.
        target: Tokens of the answer.
        log_p: Log P of the answer.
        rows: `neuron` (hidden) and `effect` of each.
    """
    ids = model.encode([text])[0]
    tokens = [token_text(model, token) for token in ids]
    answer = "".join(token_text(model, token) for token in target)
    layer, last = model.n_layers + 1, len(ids) - 1
    logit = _node(f"{layer}_{target[0]}_{last}", target[0], str(layer), last, "logit") | {
        "token_prob": math.exp(log_p),
        "is_target_logit": True,
        "clerp": f'Output "{answer}" (p={math.exp(log_p):.3f})',
    }
    neurons = _neurons(model, rows, last)
    links = [
        {"source": node["node_id"], "target": logit["node_id"], "weight": row["effect"]}
        for node, row in zip(neurons, rows, strict=True)
    ]
    read = [_node(f"E_{token}_{at}", at, "E", at, "embedding") for at, token in enumerate(ids)]
    return {
        "metadata": _metadata(model, text, tokens),
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": ""},
        "nodes": [*read, *neurons, logit],
        "links": links,
    }


def _neurons(
    model: LanguageModel, rows: Sequence[Mapping[str, Any]], at: int
) -> list[dict[str, Any]]:
    """A node per neuron; `influence` is the share of effects reached with it, the largest first."""
    neurons = [Neuron.parse(row["neuron"]) for row in rows]
    sizes = np.abs([row["effect"] for row in rows])
    order = np.argsort(-sizes, kind="stable")
    reached = np.empty(len(rows))
    reached[order] = np.cumsum(sizes[order]) / (sizes.sum() or 1.0)
    nodes = []
    for neuron, share, read in zip(neurons, reached, read_values(model, neurons), strict=True):
        name, number = f"{neuron.layer}_{neuron.index}_{at}", pair(neuron.layer, neuron.index)
        node = _node(name, number, str(neuron.layer), at, "cross layer transcoder")
        words = ", ".join(one.token for one in read.top[:3])
        nodes.append(node | {"clerp": f"{neuron}: {words}", "influence": float(share)})
    return nodes


def _metadata(model: LanguageModel, text: str, tokens: Sequence[str]) -> dict[str, Any]:
    return {
        "slug": f"broca-{slug(text)[:40]}",
        "scan": slug(model.name),
        "prompt_tokens": list(tokens),
        "prompt": text,
        "schema_version": 1,
        "info": {
            "description": "Hidden neurons of the MLPs at the last position. A link's weight is "
            "what log P of the answer loses without the neuron, measured one neuron at a time; of "
            "an answer of several tokens, each at the last position before it, summed.",
            "generator": {"name": "broca", "version": version("broca")},
            "create_time_ms": int(time.time() * 1000),
        },
    }


def _node(name: str, feature: int, layer: str, position: int, kind: str) -> dict[str, Any]:
    return {
        "node_id": name,
        "feature": feature,
        "layer": layer,
        "ctx_idx": position,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"{name.rpartition('_')[0]}-0",
        "clerp": "",
    }
