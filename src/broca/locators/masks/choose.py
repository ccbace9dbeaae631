"""The strength of a mask, chosen on held-out prompts.

For every strength of a grid masks are learned on the held-out prompts; the strength whose rankings
destroy these prompts' own answers with the fewest neurons (the smallest area of
:func:`broca.ablate_sets`) is taken. Nothing of the prompts that are judged later is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from broca.effects.aims import Aim
from broca.effects.sets import ablate_sets
from broca.locators.masks.learn import MaskConfig, learn_masks
from broca.model import LanguageModel
from broca.neurons import NeuronIndex

STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)
_SIZES = (1, 3, 10, 30, 100)


def choose_strength(
    model: LanguageModel,
    aims: Sequence[Sequence[Aim]],
    config: MaskConfig,
    warm: np.ndarray | None,
    strengths: Sequence[float] = STRENGTHS,
) -> MaskConfig:
    """The settings with the strength that serves held-out prompts best.

    Args:
        model: The model under study.
        aims: Aims of the held-out prompts.
        config: All other settings.
        warm: Values to start from, [prompt, layer, neuron].
        strengths: What is tried.
    """
    index = NeuronIndex(model.identity, ("hidden",))
    sizes = [size for size in _SIZES if size <= len(index)]
    areas = []
    for strength in strengths:
        tried = replace(config, strength=float(strength))
        scores = index.of_grid(learn_masks(model, aims, tried, warm=warm).scores)
        areas.append(
            np.mean([_area(model, aims[i], s, index, sizes) for i, s in enumerate(scores)])
        )
    return replace(config, strength=float(strengths[int(np.argmin(areas))]))


def _area(
    model: LanguageModel,
    aims: Sequence[Aim],
    scores: np.ndarray,
    index: NeuronIndex,
    sizes: Sequence[int],
) -> float:
    ranking = index.select(np.argsort(-scores, kind="stable")[: sizes[-1]])
    found = [
        ablate_sets(model, [list(aim.tokens)], ranking, sizes, target=aim.target).area[0]
        for aim in aims
    ]
    return float(np.mean(found))
