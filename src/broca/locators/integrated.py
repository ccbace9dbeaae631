"""Integrated gradients along the path that scales a layer's values together from 0.

    score_i = v_i * integral over a in [0, 1] of d log P(y; v <- a v) / d v_i

Settings: ``method`` and ``n_steps``, the rule of integration (:mod:`broca.attributions.rules`); the
default spends what convergence needs, ``riemann-right`` with 16 nodes is the query paper's.

Source: Sundararajan et al. 2017; per layer at the last position: arXiv 2406.10868.
Cost: one forward pass per prompt and L(L-1)/2 row-layers per node, forward and backward.
"""

from __future__ import annotations

import numpy as np

from broca.attributions import attribute_answer_tokens
from broca.locators.locator import Question


def integrated_gradients(question: Question) -> np.ndarray:
    """Attributions of log P, summed over the answer's tokens, [prompt, layer, neuron]."""
    found = attribute_answer_tokens(
        question.model,
        question.prompts,
        answers=[[aim.target for aim in listed] for listed in question.aims],
        **question.settings,
    )
    return np.stack([one.values for one in found])
