"""The exact effect itself: what the answer loses when the neuron alone is replaced.

    score_i = log P(y) - log P(y; v_i <- r)

Settings: ``replacement`` (with the question's other prompts as reference) and ``prefilter``;
what a prefilter left out is NaN: it ranks last on its prompt and counts as 0 in means.

Source: METHODS, "Locators and the truth"; zero-out of arXiv 2311.09060.
Cost: F L(L-1)/2 row-layers and F L rows through the unembedding, see :func:`broca.ablate_each`.
"""

from __future__ import annotations

import numpy as np

from broca.effects import ablate_each
from broca.locators.locator import Question


def exact_effect(question: Question) -> np.ndarray:
    """Loss of log P, summed over the answer's tokens, [prompt, layer, neuron]."""
    effects = ablate_each(
        question.model,
        question.prompts,
        target=[[aim.target for aim in listed] for listed in question.aims],
        reference=question.others or None,
        seed=question.seed,
        progress=False,
        **question.settings,
    )
    return -effects.values
