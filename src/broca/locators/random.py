"""Random numbers: what chance finds.

Cost: nothing.
"""

from __future__ import annotations

import zlib

import numpy as np

from broca.locators.locator import Question


def random_numbers(question: Question) -> np.ndarray:
    """Uniform numbers by seed and prompt, [prompt, layer, neuron]."""
    shape = (question.model.n_layers, question.model.identity.width("hidden"))
    ids = [listed[0].id for listed in question.aims]
    return np.stack(
        [np.random.default_rng([question.seed, zlib.crc32(i.encode())]).random(shape) for i in ids]
    )
