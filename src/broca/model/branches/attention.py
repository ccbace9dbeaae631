"""Attention in which every row is a last token of its own: it sees the prefix and itself.

All families of transformers 5 call their attention by a name in the configuration. While
:func:`branching` is active, that name points here for one model; any other model, and the same
model afterwards, keeps its own implementation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "broca_branches"

# Tensors that arrive with a call but do not enter the attention itself.
_HARMLESS = frozenset({"position_ids", "position_embeddings", "cache_position"})


class BranchesRefusedError(Exception):
    """This family does something to its attention that branches do not reproduce."""


@dataclass
class Prefixes:
    """What the rows of each layer attend to, and where the pass is.

    Attributes:
        keys: Per layer, [prompt, key-value head, prefix token, dim], rotary angles applied.
        values: The same for the values.
        masks: Per layer, additive, [prompt, 1, 1, prefix token]; None sees the whole prefix.
        layer: The layer now running.
        served: Layers whose attention came here.
    """

    keys: list[Tensor]
    values: list[Tensor]
    masks: list[Tensor | None]
    layer: int = -1
    served: set[int] = field(default_factory=set)


_CONFIGS: WeakKeyDictionary[nn.Module, list[Any]] = WeakKeyDictionary()
_ACTIVE: ContextVar[Prefixes | None] = ContextVar("broca_branches", default=None)
_HELD: ContextVar[bool] = ContextVar("broca_weights_held", default=False)


def _configs(module: nn.Module) -> list[Any]:
    """Every configuration that a part of the model reads: usually one object."""
    if module not in _CONFIGS:
        found = (vars(part).get("config") for part in module.modules())
        _CONFIGS[module] = list(
            {id(config): config for config in found if config is not None}.values()
        )
    return _CONFIGS[module]


@contextmanager
def branching(module: nn.Module, prefixes: Prefixes) -> Iterator[None]:
    """Let this model's attention read from ``prefixes``; put everything back afterwards."""
    before = [(config, config._attn_implementation_internal) for config in _configs(module)]
    token = _ACTIVE.set(prefixes)
    try:
        for config, _ in before:
            config._attn_implementation_internal = NAME
        yield
    finally:
        for config, name in before:
            config._attn_implementation_internal = name
        _ACTIVE.reset(token)


@contextmanager
def weights_held() -> Iterator[None]:
    """Let gradients of branches see no attention weight: only what flows through values."""
    token = _HELD.set(True)
    try:
        yield
    finally:
        _HELD.reset(token)


def _branch_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of rows [prompt, head, row, dim] to the prefix and, each, to itself.

    The mask that arrives is ignored: the base pass recorded the right one. ``s_aux`` are the
    scores of sinks, one per head, that take a share of the attention and put out nothing.
    """
    prefixes = _ACTIVE.get()
    if prefixes is None:
        raise RuntimeError(f"{NAME} was called outside of a branch pass")
    foreign = [n for n, v in options.items() if torch.is_tensor(v) and n not in _HARMLESS]
    if foreign:
        raise BranchesRefusedError(f"attention takes {', '.join(foreign)}")
    layer = prefixes.layer
    prefixes.served.add(layer)
    n_prompts, n_heads, n_rows, dim = query.shape
    n_kv = key.shape[1]
    query = query * (dim**-0.5 if scaling is None else scaling)
    grouped = query.reshape(n_prompts, n_kv, -1, dim)
    before = grouped @ prefixes.keys[layer].transpose(-1, -2)
    own = (query.unflatten(1, (n_kv, -1)) * key.unsqueeze(2)).sum(-1)
    scores = torch.cat([before, own.reshape(n_prompts, n_kv, -1, 1)], dim=-1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    mask = prefixes.masks[layer]
    if mask is not None:
        scores = scores + nn.functional.pad(mask, (0, 1)).to(scores.device)
    if s_aux is not None:
        sinks = s_aux.reshape(n_kv, -1, 1, 1).expand(-1, -1, n_rows, 1).reshape(1, n_kv, -1, 1)
        scores = torch.cat([sinks.expand(n_prompts, -1, -1, -1).to(scores), scores], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    if s_aux is not None:
        weights = weights[..., 1:]
    weights = weights.detach() if _HELD.get() else weights
    seen = weights[..., :-1] @ prefixes.values[layer]
    shape = (n_prompts, n_kv, n_heads // n_kv, n_rows, -1)
    out = seen.view(shape) + weights[..., -1:].reshape(shape) * value.unsqueeze(2)
    return out.flatten(1, 2).transpose(1, 2), None


AttentionInterface.register(NAME, _branch_attention)
