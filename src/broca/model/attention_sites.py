"""Which outputs of an attention's projections are q, k and v: told by what changes what.

With two tokens the first attends to itself alone. Therefore, in every layer at once:

1. what the first token's attention puts out is its v, head by head, up to a factor;
2. changing q of the first token changes nothing anywhere;
3. changing k of the first token changes nothing at the first token, and the second one.

A fused projection has several readings; the first that passes is taken. Where none does, q, k and v
are not offered: many layouts have the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from broca.architectures import Part
from broca.model.blocks import Block
from broca.model.parts import get, read_part, write_part

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel


@torch.no_grad()
def choose_attention_sites(model: LanguageModel, ids: list[int], tolerance: float) -> None:
    """Give every block the reading of q, k and v that holds in it, if any does."""
    open_blocks = [b for b in model.blocks if b.fused and "o" in b.parts]
    outputs = _outputs(model, open_blocks, ids)
    for number in range(max((len(block.fused) for block in open_blocks), default=0)):
        tried = [(b, b.fused[number]) for b in open_blocks if number < len(b.fused)]
        if not tried:
            return
        holds = _holding(model, tried, ids, outputs, tolerance)
        for (block, reading), good in zip(tried, holds, strict=True):
            if good:
                block.parts.update(reading)
        open_blocks = [block for block in open_blocks if "q" not in block.parts]


Reading = tuple[Block, dict[str, Part]]


def _holding(
    model: LanguageModel,
    tried: list[Reading],
    ids: list[int],
    before: dict[int, Tensor],
    tolerance: float,
) -> list[bool]:
    values: dict[int, Tensor] = {}

    def keep(block: Block) -> Callable[[Tensor], None]:
        def function(tensor: Tensor) -> None:
            values[id(block)] = tensor.detach().clone()

        return function

    blocks = [block for block, _ in tried]
    with ExitStack() as stack:
        for block, reading in tried:
            stack.enter_context(_changed(block, reading["v"], keep(block)))
        _outputs(model, blocks, ids)
    moved = {}
    for site in "qk":
        with ExitStack() as stack:
            for block, reading in tried:
                stack.enter_context(_changed(block, reading[site], _first_token_moved))
            moved[site] = _outputs(model, blocks, ids)
    found = []
    for block in blocks:
        key = id(block)
        if key not in before or key not in values:
            found.append(False)
            continue
        own, scale = before[key], float(before[key].abs().max())
        by_q = float((moved["q"][key] - own).abs().max())
        by_k = float((moved["k"][key][:, 0] - own[:, 0]).abs().max())
        later = float((moved["k"][key][:, 1] - own[:, 1]).abs().max())
        found.append(
            by_q <= tolerance * scale
            and by_k <= tolerance * scale
            and later > 10 * tolerance * scale
            and _is_value(values[key][:, 0], own[:, 0], block.head_counts, 10 * tolerance)
        )
    return found


def _is_value(v: Tensor, output: Tensor, counts: tuple[int, int], tolerance: float) -> bool:
    """Whether an output is v of its group's head times a factor, head by head."""
    heads, kv_heads = counts
    if output.shape[-1] % heads or v.shape[-1] * heads != output.shape[-1] * kv_heads:
        if v.shape[-1] * heads != output.shape[-1]:  # one head for all
            return False
        kv_heads = 1
    v = v.unflatten(-1, (kv_heads, -1)).repeat_interleave(heads // kv_heads, -2).float()
    output = output.unflatten(-1, (heads, -1)).float()
    factor = (v * output).sum(-1, keepdim=True) / v.square().sum(-1, keepdim=True).clamp(min=1e-30)
    return bool((factor * v - output).norm() <= tolerance * output.norm()) and bool(factor.any())


def _first_token_moved(tensor: Tensor) -> Tensor:
    shift = torch.linspace(-1, 1, tensor.shape[-1]).to(tensor) * tensor.abs().max()
    return torch.cat([tensor[:, :1] + shift, tensor[:, 1:]], 1)


def _outputs(model: LanguageModel, blocks: list[Block], ids: list[int]) -> dict[int, Tensor]:
    """What enters each block's output projection, [1, token, width], by the block's id."""
    kept: dict[int, Tensor] = {}
    handles = []
    for block in blocks:

        def keep(module: nn.Module, args: tuple, block: Block = block) -> None:
            flat = args[0].detach().reshape(1, len(ids), -1)
            kept[id(block)] = flat.clone()

        handles.append(block.source("o").register_forward_pre_hook(keep))
    try:
        model.logits(model.pad([ids]))
    finally:
        for handle in handles:
            handle.remove()
    return kept


@contextmanager
def _changed(
    block: Block, part: Part, function: Callable[[Tensor], Tensor | None]
) -> Iterator[None]:
    """Change a reading of a projection's output, [1, token, neuron]."""

    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        whole = output if output.dim() == 3 else output.unsqueeze(0)
        new = function(read_part(whole, part.cut, block.head_counts))
        if new is None:
            return None
        return write_part(whole, part.cut, block.head_counts, new).reshape(output.shape)

    handle = get(block.module, part.path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
