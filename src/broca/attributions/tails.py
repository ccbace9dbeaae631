"""What a block does to the product W h before it reaches the residual stream: norm, multiplier.

Post-norm blocks (Gemma 2 and 3, OLMo 2) normalise the MLP's output. The norm cancels any factor,
so along the raw path P is constant for every factor above 0 and jumps at 0: no quadrature
converges. On the *frozen* path the norm keeps the scale it has at factor 1 and only its linear
part acts; without such a norm both paths are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broca.errors import AttributionError
from broca.model import Block

PATHS = ("frozen-norm", "raw")


@dataclass(frozen=True)
class FrozenNorm:
    """A norm with the scale it has at one point, as a linear map of differences.

    Attributes:
        gain: Weight times scale, [prompt, d_model].
        centred: Whether the norm takes the mean off (LayerNorm).
    """

    gain: Tensor
    centred: bool

    def __call__(self, difference: Tensor) -> Tensor:
        """Map [prompt, row, d_model], a difference of two inputs, to that of the outputs."""
        if self.centred:
            difference = difference - difference.mean(-1, keepdim=True)
        return difference * self.gain.unsqueeze(1)

    def pulled_back(self, gradient: Tensor) -> Tensor:
        """Map a gradient [prompt, row, d_model] by the outputs to that by the inputs."""
        gradient = gradient * self.gain.unsqueeze(1)
        return gradient - gradient.mean(-1, keepdim=True) if self.centred else gradient


@torch.no_grad()
def freeze_norm(norm: nn.Module, inputs: Tensor, outputs: Tensor) -> FrozenNorm:
    """Freeze a norm at the inputs [prompt, d_model] that gave these outputs.

    Raises:
        AttributionError: If the norm is not a scale per vector times a weight per dimension.
    """
    centred = isinstance(norm, nn.LayerNorm)
    if centred:
        bias = norm.bias if norm.bias is not None else inputs.new_zeros(())
        weight = norm.weight if norm.weight is not None else inputs.new_ones(inputs.shape[-1])
        direction = (inputs - inputs.mean(-1, keepdim=True)) * weight
    else:
        bias = inputs.new_zeros(())
        # An RMS norm of a large constant vector is its weight, whatever it adds for stability.
        weight = norm.forward(torch.full_like(inputs[:1], 1e4))[0]
        direction = inputs * weight
    wanted = outputs - bias
    size = direction.square().sum(-1, keepdim=True)
    scale = (direction * wanted).sum(-1, keepdim=True) / torch.where(size > 0, size, 1.0)
    tolerance = 1e-4 if inputs.dtype == torch.float32 else 5e-2
    if (direction * scale - wanted).norm() > tolerance * wanted.norm():
        raise AttributionError(
            "The norm behind the MLP is no scale times a weight, so it cannot be frozen",
            type(norm).__name__,
            "Use path='raw'.",
        )
    return FrozenNorm(weight * scale, centred)


@dataclass(frozen=True)
class Tail:
    """From the product W h of one layer to its contribution to the residual stream.

    Attributes:
        block: The decoder block.
        frozen: Its norm, frozen; None where there is none or on the raw path.
    """

    block: Block
    frozen: FrozenNorm | None

    @property
    def linear(self) -> bool:
        """Whether a factor on the product is the same factor on the contribution."""
        return self.frozen is not None or self.block.post_mlp_norm is None

    def __call__(self, product: Tensor) -> Tensor:
        """Contribution of products [prompt, row, d_model], up to a constant where it is linear."""
        if self.frozen is not None:
            product = self.frozen(product)
        elif self.block.post_mlp_norm is not None:
            bias = down_bias(self.block)
            product = self.block.post_mlp_norm(product if bias is None else product + bias)
        return product if self.block.multiplier == 1.0 else product * self.block.multiplier

    def pulled_back(self, gradient: Tensor) -> Tensor:
        """Of a linear tail: the gradient by the product from that by the residual stream."""
        if self.frozen is not None:
            gradient = self.frozen.pulled_back(gradient)
        return gradient if self.block.multiplier == 1.0 else gradient * self.block.multiplier


def down_bias(block: Block) -> Tensor | None:
    """Bias of the down projection, None if it has none."""
    return getattr(block.down, "bias", None)


def make_tail(block: Block, path: str, down: Tensor, normed: Tensor | None) -> Tail:
    """The tail of a block, from what its norm saw and gave at factor 1, each [prompt, d_model]."""
    norm = block.post_mlp_norm
    if norm is None or normed is None or path == "raw":
        return Tail(block, None)
    return Tail(block, freeze_norm(norm, down, normed))
