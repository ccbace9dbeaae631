"""Places in a decoder block by dotted path, and sites that are parts of fused tensors."""

from __future__ import annotations

from operator import attrgetter

import torch
from torch import Tensor, nn

from broca.errors import ModelError

TELL = (
    "Describe the block yourself: LanguageModel(model, tokenizer, layout=broca.Layout("
    "layers='model.layers', down='mlp.down_proj', up=broca.Part('mlp.up_proj'), ...))."
)


def get(module: nn.Module, path: str | None) -> nn.Module:
    """The submodule at a dotted path (None or "": the module itself)."""
    return attrgetter(path)(module) if path else module


def has(module: nn.Module, path: str) -> bool:
    """Whether there is something at a dotted path."""
    try:
        return get(module, path) is not None
    except AttributeError:
        return False


def read_part(tensor: Tensor, cut: str, head_counts: tuple[int, int]) -> Tensor:
    """The part of a projection's output [..., width] that a site is."""
    kind, _, number = cut.partition("-")
    if kind == "all":
        return tensor
    which = int(number)
    width = tensor.shape[-1]
    if kind == "half":
        return tensor[..., which * (width // 2) : (which + 1) * (width // 2)]
    heads, kv_heads = head_counts
    if kind in ("heads", "fours"):
        blocks = heads if kind == "heads" else 4
        return tensor.unflatten(-1, (blocks, 3, -1))[..., which, :].flatten(-2)
    if kind == "shared":
        grouped = tensor.unflatten(-1, (kv_heads, heads // kv_heads + 2, -1))
        of_head = slice(0, -2) if which == 0 else slice(which - 3, which - 2 or None)
        return grouped[..., of_head, :].flatten(-3)
    if kind == "single":
        kv_heads = 1
    sizes = [heads, kv_heads, kv_heads]
    unit = width // sum(sizes)
    start = sum(sizes[:which]) * unit
    return tensor[..., start : start + sizes[which] * unit]


def write_part(tensor: Tensor, cut: str, head_counts: tuple[int, int], part: Tensor) -> Tensor:
    """A copy of a projection's output with one site replaced."""
    if cut == "all":
        return part
    where = read_part(torch.arange(tensor.shape[-1], device=tensor.device), cut, head_counts)
    return tensor.index_copy(-1, where, part.to(tensor))


def rows_of_part(module: nn.Module, cut: str, head_counts: tuple[int, int]) -> Tensor:
    """Which outputs of a projection a site is made of, int64 [neuron]."""
    return read_part(torch.arange(in_out(module)[1]), cut, head_counts)


def in_out(module: nn.Module) -> tuple[int, int]:
    """Input and output width of a projection.

    Raises:
        ModelError: If the module is none that broca knows.
    """
    if type(module).__name__ == "Conv1D":
        return module.nx, module.nf  # type: ignore[return-value]
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features  # type: ignore[return-value]
    raise ModelError(f"{type(module).__name__} is no projection that broca knows", mend=TELL)
