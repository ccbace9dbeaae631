"""What lies between an MLP's output and the residual stream: a norm, a factor, measured.

1. A norm of the block whose input is a multiple of the MLP's output is behind the MLP.
2. Each block runs again on what entered it, with a known shift on the MLP's output (or behind that
   norm). If what leaves it moves by a multiple of the shift, that multiple is the factor and the
   way is linear; otherwise rows cannot be put behind the layer.

Nothing is read from names: a factor or a norm that a family adds is found like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from broca.model.blocks import Block

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

Call = tuple[tuple, dict[str, Any]]


@torch.no_grad()
def measure_residual(model: LanguageModel, ids: list[int], allowed: float) -> None:
    """Set every block's ``post_mlp_norm``, ``multiplier`` and ``linear``.

    Args:
        model: The model, its sites found.
        ids: Token ids of a short prompt.
        allowed: Relative error up to which a way counts as linear.
    """
    calls: dict[int, Call] = {}
    norms: dict[int, list[nn.Module]] = {}
    with ExitStack() as stack:
        for layer, block in enumerate(model.blocks):
            stack.enter_context(_call_kept(block, layer, calls))
            if "down" in block.widths():
                stack.enter_context(_norms_behind(model, block, layer, norms))
        model.logits(model.pad([ids]))
    for layer, block in enumerate(model.blocks):
        block.post_mlp_norm = next(iter(norms.get(layer, [])), None)
        block.multiplier, block.linear = 1.0, not block.has_neurons
        if "down" in block.widths() and layer in calls:
            factor, error = _tried(model, block, layer, calls[layer])
            if error <= allowed and factor:
                block.multiplier, block.linear = factor, True


@contextmanager
def _call_kept(block: Block, layer: int, calls: dict[int, Call]) -> Iterator[None]:
    def keep(module: nn.Module, args: tuple, kwargs: dict) -> None:
        calls[layer] = (args, dict(kwargs))

    handle = block.module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _norms_behind(
    model: LanguageModel, block: Block, layer: int, found: dict[int, list[nn.Module]]
) -> Iterator[None]:
    """Collect norms whose input is a multiple of what the MLP put out."""
    written: list[Tensor] = []

    def keep(tensor: Tensor) -> None:
        written[:] = [tensor.detach().clone()]

    def compare(module: nn.Module, args: tuple, kwargs: dict) -> None:
        given = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        if written and given is not None and _is_multiple(given, written[0]):
            found.setdefault(layer, []).append(module)

    with ExitStack() as stack:
        stack.enter_context(model.watch("down", layer, keep))
        for module in block.module.modules():
            if "norm" in type(module).__name__.lower() and module is not block.module:
                handle = module.register_forward_pre_hook(compare, with_kwargs=True)
                stack.callback(handle.remove)
        yield


def _is_multiple(tensor: Tensor, of: Tensor) -> bool:
    if tensor.shape != of.shape:
        return False
    a, b = tensor.float(), of.float()
    factor = (a * b).sum() / b.square().sum().clamp(min=1e-30)
    return bool(factor) and bool((a - factor * b).norm() <= 1e-2 * a.norm())


def _tried(model: LanguageModel, block: Block, layer: int, call: Call) -> tuple[float, float]:
    """The factor of a shift on its way out of the block, and how far it is from one."""
    try:
        shift, plain, moved = _shifted(model, block, layer, call)
    except Exception:  # whatever a block raises outside of its model, it is not driven this way
        return 0.0, float("inf")
    if plain.shape != shift.shape:  # several streams between the blocks
        return 0.0, float("inf")
    difference = (moved - plain).float()
    factor = float((difference * shift).sum() / shift.square().sum())
    error = (difference - factor * shift).norm() / difference.norm().clamp(min=1e-30)
    # Factors are numbers such as 1 or 0.22: what differs by rounding is that number.
    return (1.0 if abs(factor - 1.0) < 1e-4 else factor), float(error)


def _shifted(
    model: LanguageModel, block: Block, layer: int, call: Call
) -> tuple[Tensor, Tensor, Tensor]:
    args, kwargs = call
    shifts: list[Tensor] = []

    def shift(tensor: Tensor) -> Tensor:
        wave = torch.sin(torch.arange(tensor.shape[-1], device=tensor.device) * 1.7 + 0.3)
        shifts[:] = [(wave.to(tensor) * tensor.abs().mean()).expand_as(tensor)]
        return tensor + shifts[0]

    def at_norm(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return shift(output)

    plain = _rows_of(block.module(*args, **kwargs))
    with ExitStack() as stack:
        if block.post_mlp_norm is None:
            stack.enter_context(model.touch("down", layer, shift))
        else:
            stack.callback(block.post_mlp_norm.register_forward_hook(at_norm).remove)
        moved = _rows_of(block.module(*args, **kwargs))
    return shifts[0].float(), plain, moved


def _rows_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output
