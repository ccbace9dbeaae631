"""The precision attribution runs in: float32, whatever the weights are stored in.

On a GPU ``torch.set_float32_matmul_precision("high")`` lets products round their factors to TF32,
several times faster; a result then tells its agreement with float32, as in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from broca.model import LanguageModel


@contextmanager
def computed_in(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Cast a model's floating weights and buffers for a while, then put back what was there.

    Widening loses nothing, so the wide copy is cast back instead of keeping both in memory;
    where the cast narrows, the originals are kept. Quantised weights stay as they are.
    """
    held = [*module.parameters(), *(b for b in module.buffers() if _half(b))]
    cast = [t for t in held if t.is_floating_point() and t.dtype != dtype and t.element_size() > 1]
    narrowed = {id(t): t.data for t in cast if t.element_size() > dtype.itemsize}
    stored = [t.dtype for t in cast]
    try:
        for tensor in cast:
            tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, old in zip(cast, stored, strict=True):
            tensor.data = narrowed[id(tensor)] if id(tensor) in narrowed else tensor.data.to(old)


def rounds_factors(model: LanguageModel) -> bool:
    """Whether products in float32 round: on a GPU that was allowed to."""
    allowed = torch.get_float32_matmul_precision() != "highest"
    return allowed and model.device.type == "cuda"


@contextmanager
def exact_products() -> Iterator[None]:
    """Multiply in float32 as it is, where GPUs are allowed to round factors to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _half(tensor: torch.Tensor) -> bool:
    """Rotary angles and the like are float32 buffers in any model; they stay so."""
    return tensor.is_floating_point() and tensor.element_size() == 2
