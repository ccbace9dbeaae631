"""Learned masks: the fewest neurons that keep (or whose loss destroys) an answer.

``config`` -> ``objective`` (answers under masks, at the last position or at all) and ``loss`` (what
is minimised, for one prompt, several, or a relation against others) -> ``gates`` (slimming and hard
concrete) -> ``learn`` (the loop: warm start, early stopping, budget) -> ``choose``
(hyper-parameters on held-out prompts).
"""

from broca.locators.masks.choose import choose_settings
from broca.locators.masks.config import MaskConfig
from broca.locators.masks.gates import GATES
from broca.locators.masks.learn import learn_masks
from broca.locators.masks.locate import SETTINGS, hard_concrete, settings_of, slimming

__all__ = [
    "GATES",
    "SETTINGS",
    "MaskConfig",
    "choose_settings",
    "hard_concrete",
    "learn_masks",
    "settings_of",
    "slimming",
]
