"""Activation: how much a neuron writes, whatever it says.

    score_i = |v_i| * length of its value vector

Reads neither the answer nor its gradient: what no locator should fall below.

Source: Geva et al. 2022; a baseline of arXiv 2311.09060. (The query studies' baseline of the same
name ranks by the bare value, as in arXiv 2406.10868.)
Cost: one forward pass per prompt.
"""

from __future__ import annotations

import numpy as np
import torch

from broca.effects.replacement import last_values
from broca.locators.locator import Question


def activation(question: Question) -> np.ndarray:
    """|value| times length, at the position of the answer's first token."""
    model = question.model
    values = last_values(model, question.positions).abs().numpy()
    return values * value_lengths(question)


def value_lengths(question: Question) -> np.ndarray:
    """Length of every value vector, [layer, neuron]."""
    model = question.model
    layers = range(model.n_layers)
    return torch.stack([model.value_weight(l).float().norm(dim=0).cpu() for l in layers]).numpy()
