"""How many threads a model on the processor computes with while somebody waits for it."""

from __future__ import annotations

import torch

from broca.model import LanguageModel

LARGE = 20_000_000  # parameters above which a pass is worth sharing among cores


def suited(model: LanguageModel) -> int:
    """One thread for a small model, for a large one as many as torch would take.

    A small model's pass is over before threads have agreed on who does what. Torch takes every core
    unless `OMP_NUM_THREADS` says otherwise.
    """
    size = sum(parameter.numel() for parameter in model.module.parameters())
    return torch.get_num_threads() if size >= LARGE else 1
