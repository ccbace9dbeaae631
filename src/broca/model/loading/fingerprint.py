"""A hash of all weights, to tell a model from others."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from broca.model.numbers import stored_arrays

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def fingerprint(module: nn.Module) -> str:
    """Hash of all weights: equal for equal bytes, whatever the order of summation.

    The bits of every parameter are summed as integers (exact and independent of threads and
    devices) and some are hashed as they are.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        for stored in stored_arrays(parameter):
            flat = stored.detach().reshape(-1)
            bits = flat.contiguous().view(_INTEGERS[flat.element_size()])
            total = int(bits.sum(dtype=torch.int64))
            sample = bits[:: max(1, len(bits) // 64)].to(torch.int64).cpu().tolist()
            digest.update(f"{name}{tuple(parameter.shape)}{total}{sample}".encode())
    return digest.hexdigest()[:16]
