"""Learned masks: the fewest neurons that keep (or whose loss destroys) an answer.

``objective`` (what is learned, for one prompt, several, or a relation against others) -> ``gates``
(slimming and hard concrete) -> ``learn`` (the loop: warm start, early stopping, budget) ->
``choose`` (hyper-parameters on held-out prompts).
"""

from broca.locators.masks.choose import choose_strength
from broca.locators.masks.gates import GATES
from broca.locators.masks.learn import MaskConfig, learn_masks
from broca.locators.masks.locate import hard_concrete, slimming

__all__ = ["GATES", "MaskConfig", "choose_strength", "hard_concrete", "learn_masks", "slimming"]
