"""The precision attribution runs in: float32, whatever the weights are stored in.

On a GPU "tf32", or ``torch.set_float32_matmul_precision("high")``, lets products round their
factors to TF32, several times faster; a result then tells its agreement with float32, as in half
precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from broca.errors import AttributionError
from broca.model import LanguageModel

TF32 = "tf32"
"""Named in place of a dtype: float32 whose products may round on a GPU."""

_WIDTHS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def width_of(dtype: torch.dtype | str | None) -> torch.dtype:
    """What weights are held in for a precision; float32 where none is named.

    Raises:
        AttributionError: There is no such precision.
    """
    if dtype is None or dtype == TF32:
        return torch.float32
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found not in _WIDTHS:
        raise AttributionError(
            f"Unknown dtype {dtype!r}", mend="Use 'float32', 'tf32' or 'bfloat16'."
        )
    return found


@contextmanager
def computed_in(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Cast a model's floating weights and buffers for a while, then put back what was there.

    Widening loses nothing, so the wide copy is cast back instead of keeping both in memory;
    where the cast narrows, the originals are kept. Quantised weights stay as they are.
    """
    cast = _to_cast(module, dtype)
    narrowed = {id(t): t.data for t in cast if _narrows(t, dtype)}
    stored = [t.dtype for t in cast]
    try:
        for tensor in cast:
            tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, old in zip(cast, stored, strict=True):
            tensor.data = narrowed[id(tensor)] if id(tensor) in narrowed else tensor.data.to(old)


def extra_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that :func:`computed_in` takes beside the weights as they are stored."""
    return sum(
        t.numel() * (dtype.itemsize - (0 if _narrows(t, dtype) else t.element_size()))
        for t in _to_cast(module, dtype)
    )


def _to_cast(module: nn.Module, dtype: torch.dtype) -> list[torch.Tensor]:
    held = [*module.parameters(), *(b for b in module.buffers() if _half(b))]
    return [t for t in held if t.is_floating_point() and t.dtype != dtype and t.element_size() > 1]


def _narrows(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    return tensor.element_size() > dtype.itemsize


def rounds_factors(model: LanguageModel) -> bool:
    """Whether products in float32 round: on a GPU that was allowed to."""
    return torch.get_float32_matmul_precision() != "highest" and _on_gpu(model)


def _on_gpu(model: LanguageModel) -> bool:
    return model.device.type == "cuda"


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply in float32 as it is, where GPUs are allowed to round factors to TF32."""
    with _products("highest"):
        yield


@contextmanager
def rounded_products(model: LanguageModel) -> Iterator[None]:
    """Let a GPU round factors to TF32 for a while; on a processor nothing changes."""
    with _products("high" if _on_gpu(model) else torch.get_float32_matmul_precision()):
        yield


@contextmanager
def _products(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _half(tensor: torch.Tensor) -> bool:
    """Rotary angles and the like are float32 buffers in any model; they stay so."""
    return tensor.is_floating_point() and tensor.element_size() == 2
