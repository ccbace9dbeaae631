"""What is not finite is never measured: one refusal, with the dtype to take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from broca.errors import ModelError

if TYPE_CHECKING:
    from broca.model.passes import PassRunner


def require_finite(
    model: PassRunner, values: Tensor, what: str = "logits", mask: Tensor | None = None
) -> Tensor:
    """Hand on values, if they are finite.

    A single -inf among finite values passes: families bar tokens of their vocabulary that way.

    Args:
        model: Whose values they are.
        values: [..., vocab] or [..., neuron].
        what: What they are, for the error.
        mask: [...], 0 where a value is nobody's (padding); all count if None.

    Raises:
        ModelError: If a row holds NaN or infinity.
    """
    broken = ~torch.isfinite(values.detach().amax(-1))
    if mask is not None:
        broken &= mask.to(broken.device) != 0
    if bool(broken.any()):
        dtype = str(model.dtype).removeprefix("torch.")
        raise ModelError(f"The {what} of {model.name} are not finite in {dtype}", mend=_mend(dtype))
    return values


def _mend(dtype: str) -> str:
    if dtype == "float16":
        return 'float16 overflows; load the model with dtype="bfloat16" or dtype="float32".'
    if dtype == "bfloat16":
        return 'Load the model with dtype="float32".'
    return "Its weights are damaged, or an intervention drives it out of its range."
