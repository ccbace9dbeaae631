"""Primitive 2: run layers a to b on given rows, inside the model's own forward.

Whatever a family does outside its blocks (embedding, masks, rotary angles, final norm, head)
stays its own code: the blocks below ``start`` are passed over, and the block below hands on the
rows that were given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

KeysValues = list[tuple[Tensor, Tensor] | None]


@dataclass
class Pass:
    """What one forward pass left behind.

    Attributes:
        logits: float32, [prompt, kept, vocab].
        inputs: The rows entering a layer, [prompt, token, d_model], for the layers asked for.
        keys_values: Keys and values per layer, None for layers that did not run.
    """

    logits: Tensor
    inputs: dict[int, Tensor] = field(default_factory=dict)
    keys_values: KeysValues = field(default_factory=list)


@contextmanager
def passed_over(layers: Sequence[nn.Module], start: int, rows: Tensor | None) -> Iterator[None]:
    """Make layers below ``start`` do nothing and ``start`` begin with ``rows``."""
    with ExitStack() as stack:
        for number, layer in enumerate(layers[:start]):
            given = rows if number == start - 1 else None
            stack.enter_context(_forward_replaced(layer, given))
        yield


@contextmanager
def _forward_replaced(layer: nn.Module, rows: Tensor | None) -> Iterator[None]:
    own = layer.__dict__.get("forward")
    returns = getattr(layer, "_broca_returns", Tensor)

    def forward(hidden_states: Tensor | None = None, *args, **kwargs):
        out = hidden_states if rows is None else rows
        return returns([out, None]) if returns in (tuple, list) else out

    layer.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own  # type: ignore[method-assign]


@contextmanager
def inputs_kept(layers: Sequence[nn.Module], wanted: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Collect the rows that enter some layers."""
    kept: dict[int, Tensor] = {}

    def keep(number: int):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            kept[number] = args[0] if args else kwargs["hidden_states"]

        return hook

    handles = [
        layers[number].register_forward_pre_hook(keep(number), with_kwargs=True)
        for number in set(wanted)
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def crop(keys_values: KeysValues, rows: Tensor | None, length: int) -> KeysValues:
    """The first ``length`` cached tokens of some rows, or of all without a copy."""

    def cut(tensor: Tensor) -> Tensor:
        return (tensor if rows is None else tensor[rows])[:, :, :length]

    return [None if pair is None else (cut(pair[0]), cut(pair[1])) for pair in keys_values]


def kept_keys_values(cache: Any, n_layers: int) -> KeysValues:
    """Keys and values of a cache of transformers, per layer."""
    if cache is None:
        return []
    found: KeysValues = []
    for number in range(n_layers):
        layer: Any = cache.layers[number] if number < len(cache.layers) else None
        keys = getattr(layer, "keys", None)
        found.append((keys, layer.values) if keys is not None and keys.numel() else None)
    return found
