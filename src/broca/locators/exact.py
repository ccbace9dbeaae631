"""The exact effect itself: what the answer loses when the neuron alone is replaced.

    score_i = log P(y) - log P(y; v_i <- r)

Settings: ``replacement`` (with the question's other prompts as reference) and ``prefilter``;
neurons that a prefilter left out rank last.

Source: METHODS, "Locators and the truth"; zero-out of arXiv 2311.09060.
Cost: F L(L-1)/2 row-layers and F L rows through the unembedding, see :func:`broca.ablate_each`.
"""

from __future__ import annotations

import numpy as np

from broca.effects import ablate_each
from broca.locators.locator import Question


def exact_effect(question: Question) -> np.ndarray:
    """Loss of log P, summed over the answer's tokens, [prompt, layer, neuron]."""
    found = []
    for aim in question.flat:
        effects = ablate_each(
            question.model,
            [list(aim.tokens)],
            target=aim.target,
            reference=question.others or None,
            seed=question.seed,
            progress=False,
            **question.settings,
        )
        found.append(-effects[0].values)
    losses = question.summed(np.stack(found))
    return np.nan_to_num(losses, nan=float(np.nanmin(losses)) - 1.0)
