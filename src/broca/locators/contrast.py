"""Locators that contrast a group of prompts with others: they read no answer.

With v(p) a neuron's value at the last token of prompt p, own prompts and others:

- ``expertise``: average precision of v against own or other (arXiv 2502.17355); where a neuron's
  expert is not reached, its value counts as lowest.
- ``mean-difference``: (mean over own - mean over others) / pooled deviation (the direction of
  contrastive steering, one neuron at a time: arXiv 2312.06681).
- ``firing``: log-odds of v > 0 on own prompts minus on others, half a prompt added to each count
  (LAPE asks for low entropy of the same probabilities over languages: arXiv 2402.16438).

One number per neuron for all prompts together. Cost: one forward pass per prompt, own and other.
"""

from __future__ import annotations

import numpy as np

from broca.effects.replacement import last_values
from broca.errors import EffectError
from broca.locators.locator import Question
from broca.scores import average_precision


def expertise(question: Question) -> np.ndarray:
    """Average precision, [1, layer, neuron]."""
    own, others = _values(question)
    values = _unreached_lowest(question, np.concatenate([own, others]))
    values = values.reshape(len(values), -1)
    positive = np.arange(len(values)) < len(own)
    found = average_precision(values, positive, np.ones(len(values), bool), neuron_axis=1)
    return np.asarray(found).reshape(1, *own.shape[1:])


def mean_difference(question: Question) -> np.ndarray:
    """Difference of means in pooled standard deviations, [1, layer, neuron]."""
    own, others = _values(question)
    spread = np.sqrt(
        (own.var(0) * len(own) + others.var(0) * len(others)) / (len(own) + len(others))
    )
    gap = own.mean(0) - others.mean(0)
    return (gap / np.maximum(spread, 1e-6))[None]


def firing(question: Question) -> np.ndarray:
    """Difference of log-odds of firing, [1, layer, neuron]."""
    own, others = _values(question)
    return (_log_odds(own) - _log_odds(others))[None]


def _unreached_lowest(question: Question, values: np.ndarray) -> np.ndarray:
    """Values [prompt, layer, neuron] with neurons of experts not reached below all others."""
    for layer, block in enumerate(question.model.blocks):
        if block.experts is not None:
            there = values[:, layer, : block.experts.total]
            by_expert = there.reshape(len(values), block.experts.number, -1)
            by_expert[~by_expert.any(-1)] = np.finfo(values.dtype).min
            values[:, layer, : block.experts.total] = by_expert.reshape(there.shape)
    return values


def _log_odds(values: np.ndarray) -> np.ndarray:
    firing = (values > 0).sum(0)
    return np.log((firing + 0.5) / (len(values) - firing + 0.5))


def _values(question: Question) -> tuple[np.ndarray, np.ndarray]:
    """Values at the last token of own prompts and of others, each [prompt, layer, neuron].

    Raises:
        EffectError: If there are no others.
    """
    if not question.others:
        raise EffectError("This locator contrasts prompts with others and got none")
    own = last_values(question.model, question.positions).numpy()
    return own, last_values(question.model, question.others).numpy()
