"""Primitive 1: call a function on the tensor at a site, put back what it returns.

A function sees [prompt, token, neuron] whatever a family keeps: flattened batches, parts of fused
projections, and experts, whose neurons stand side by side in front of those of a shared expert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from broca.model.blocks import Block
from broca.model.experts import SlotFunction, Slots, gathered, spread
from broca.model.parts import read_part, write_part

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

Touch = Callable[[Tensor], Tensor | None]


@contextmanager
def touched(model: LanguageModel, site: str, layer: int, function: Touch) -> Iterator[None]:
    """Call a function on a site's values in experts and on ordinary ones, each in full width."""
    block = model.block(layer)
    routed, own = block.width(site) or (0, 0)

    def in_experts(tensor: Tensor) -> Tensor | None:
        if not own:
            return function(tensor)
        new = function(nn.functional.pad(tensor, (0, own)))
        return None if new is None else new[..., :routed]

    def in_shared(tensor: Tensor) -> Tensor | None:
        if not routed:
            return function(tensor)
        new = function(nn.functional.pad(tensor, (routed, 0)))
        return None if new is None else new[..., routed:]

    with ExitStack() as stack:
        stack.enter_context(_rows_counted(model, block))
        if routed:
            stack.enter_context(_in_experts(model, block, site, in_experts))
        if own:
            stack.enter_context(_ordinary(model, block, site, in_shared))
        yield


@contextmanager
def watched(
    model: LanguageModel, site: str, layer: int, function: Callable[[Tensor], None]
) -> Iterator[None]:
    """Call a function with a site's values, experts and shared expert side by side."""
    block = model.block(layer)
    routed, own = block.width(site) or (0, 0)
    kept: dict[str, Tensor] = {}

    def keep(part: str) -> Touch:
        def take(tensor: Tensor) -> None:
            kept[part] = tensor
            if len(kept) == bool(routed) + bool(own):
                parts = [kept.pop(name) for name in ("experts", "shared") if name in kept]
                function(parts[0] if len(parts) == 1 else _joined(*parts))

        return take

    with ExitStack() as stack:
        stack.enter_context(_rows_counted(model, block))
        if routed:
            stack.enter_context(_in_experts(model, block, site, keep("experts")))
        if own:
            stack.enter_context(_ordinary(model, block, site, keep("shared")))
        yield


@contextmanager
def touched_apart(
    model: LanguageModel,
    site: str,
    layer: int,
    in_experts: SlotFunction,
    ordinary: Touch,
) -> Iterator[None]:
    """Touch a site in experts slot by slot, and ordinary neurons as [prompt, token, neuron]."""
    block = model.block(layer)
    routed, own = block.width(site) or (0, 0)
    with ExitStack() as stack:
        stack.enter_context(_rows_counted(model, block))
        if routed:
            assert block.experts is not None
            stack.enter_context(block.experts.touched(site, in_experts))
        if own:
            stack.enter_context(_ordinary(model, block, site, ordinary))
        yield


def _joined(experts: Tensor, shared: Tensor) -> Tensor:
    whole = nn.functional.pad(experts, (0, shared.shape[-1]))
    whole[..., experts.shape[-1] :] = shared
    return whole


@contextmanager
def _rows_counted(model: LanguageModel, block: Block) -> Iterator[None]:
    """Keep how many prompts a pass has: families flatten the batch in places."""

    def count(module: nn.Module, args: tuple, kwargs: dict) -> None:
        model.rows = len(args[0] if args else kwargs["hidden_states"])

    handle = block.module.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _in_experts(model: LanguageModel, block: Block, site: str, function: Touch) -> Iterator[None]:
    experts = block.experts
    assert experts is not None

    def on_slots(values: Tensor, slots: Slots) -> Tensor | None:
        dense = spread(values, slots, experts.number)
        new = function(dense.reshape(model.rows, -1, experts.total))
        if new is None:
            return None
        return gathered(new.reshape(slots.n_tokens, experts.number, -1), slots)

    with experts.touched(site, on_slots):
        yield


@contextmanager
def _ordinary(model: LanguageModel, block: Block, site: str, function: Touch) -> Iterator[None]:
    plain = site in ("hidden", "down")
    cut = "all" if plain else block.parts[site].cut
    source = block.source(site)

    def apply(tensor: Tensor) -> Tensor | None:
        flat = tensor.dim() == 2
        whole = tensor.unflatten(0, (model.rows, -1)) if flat else tensor
        new = function(read_part(whole, cut, block.head_counts))
        if new is None:
            return None
        new = write_part(whole, cut, block.head_counts, new)
        return new.flatten(0, 1) if flat else new

    def before(module: nn.Module, args: tuple) -> tuple | None:
        new = apply(args[0])
        return None if new is None else (new, *args[1:])

    def after(module: nn.Module, args: tuple, output: Any) -> Any:
        if not isinstance(output, tuple):
            return apply(output)
        new = apply(output[0])
        return None if new is None else (new, *output[1:])

    if site == "hidden":
        handle = source.register_forward_pre_hook(before)
    else:
        handle = source.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
