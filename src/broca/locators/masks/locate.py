"""Learned masks as locators: what the fewest neurons are that keep the answer.

    score = what the mask keeps; among neurons kept alike, gradient * activation (at the positions
    where masks act) decides

Settings are those of :class:`broca.locators.masks.MaskConfig` but the gate, and ``shared``: one
mask for all prompts (a query's, a relation's) in place of one for each. A shared mask also spares
the answers of the question's other prompts, where it has some.

Source: arXiv 2311.09060, section 4 (there masks act at every position). Cost: per step, one token
per prompt forward and backward; with ``positions="all"`` whole prompts.
"""

from __future__ import annotations

import numpy as np

from broca.effects.aims import make_aims
from broca.locators.gradients import gradient_activation, gradient_activation_everywhere
from broca.locators.locator import Question
from broca.locators.masks.learn import MaskConfig, learn_masks

_LEAST = 1e-6  # breaks ties of the mask, changes no order of it


def slimming(question: Question) -> np.ndarray:
    """Masks between 0 and 1 with an L1 penalty, [prompt, layer, neuron]; [1, ...] if shared."""
    return _masks(question, "slimming")


def hard_concrete(question: Question) -> np.ndarray:
    """Stochastic gates with an L0 penalty, [prompt, layer, neuron]; [1, ...] if shared."""
    return _masks(question, "hard-concrete")


def _masks(question: Question, gate: str) -> np.ndarray:
    settings = dict(question.settings)
    shared = bool(settings.pop("shared", False))
    config = MaskConfig(gate=gate, seed=question.seed, **settings)
    everywhere = config.positions == "all"
    warm = (gradient_activation_everywhere if everywhere else gradient_activation)(question)
    others = make_aims(question.model, question.others, "answer") if _spares(question) else ()
    if shared:
        warm = warm.mean(0, keepdims=True)
    found = learn_masks(
        question.model, question.aims, config, warm=warm, shared=shared, others=others
    ).scores
    largest = np.abs(warm).max(axis=(1, 2), keepdims=True)
    return found + _LEAST * warm / np.maximum(largest, 1e-30)


def _spares(question: Question) -> bool:
    return bool(question.settings.get("shared") and question.others)
