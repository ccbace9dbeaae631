"""Whether a weight is an array of numbers, or the packed form of a quantisation library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from torch import Tensor, nn


def is_plain(weight: Any) -> TypeGuard[Tensor]:
    """Whether a weight is a tensor of torch's own, not one that a library computes with."""
    return type(weight) in (Tensor, nn.Parameter) and type(weight.data) is Tensor


def is_numbers(weight: Any) -> TypeGuard[Tensor]:
    """Whether a weight can be read as numbers: floating point and not packed."""
    return is_plain(weight) and weight.is_floating_point()


def stored_arrays(weight: Tensor) -> Iterator[Tensor]:
    """The tensors of torch's own that a weight is stored in: itself, or the parts of a packed one.

    Those of torchao and quanto name their parts, as `torch.compile` asks of them; others
    (bitsandbytes) are such tensors themselves.
    """
    parts = getattr(weight, "__tensor_flatten__", None)
    if is_plain(weight) or parts is None:
        yield weight
        return
    names, _ = parts()
    for name in names:
        yield from stored_arrays(getattr(weight, name))
