"""Activation: how much a neuron writes, whatever it says.

    score_i = |v_i| * length of its value vector

Reads neither the answer nor its gradient: what no locator should fall below.

Source: Geva et al. 2022; a baseline of arXiv 2311.09060. (The query studies' baseline of the same
name ranks by the bare value, as in arXiv 2406.10868.)
Cost: one forward pass per prompt.
"""

from __future__ import annotations

import numpy as np

from broca.effects.replacement import last_values
from broca.locators.locator import SITE, Question


def activation(question: Question) -> np.ndarray:
    """|value| times length, at the position of the answer's first token."""
    model = question.model
    found = last_values(model, question.positions).abs().numpy()
    for layer, width in enumerate(model.identity.layer_widths(SITE)):
        if width:
            found[:, layer, :width] *= model.value_norms(layer).cpu().numpy()
    return found
