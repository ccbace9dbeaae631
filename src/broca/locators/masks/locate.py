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

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from broca.effects.aims import Aim, make_aims
from broca.errors import EffectError
from broca.locators.gradients import gradient_activation, gradient_activation_everywhere
from broca.locators.locator import Question
from broca.locators.masks.choose import RATES, STRENGTHS, choose_settings
from broca.locators.masks.config import MaskConfig
from broca.locators.masks.learn import learn_masks

_LEAST = 1e-6  # breaks ties of the mask, changes no order of it
_BESIDE = ("shared", "chosen_on")  # settings of a locator that are none of the mask

SETTINGS = (*(f.name for f in fields(MaskConfig) if f.name not in ("gate", "seed")), "shared")
"""What may be set; the gate is told by a locator's name, the seed by the question."""


def slimming(question: Question) -> np.ndarray:
    """Masks between 0 and 1 with an L1 penalty, [prompt, layer, neuron]; [1, ...] if shared."""
    return _masks(question, "slimming")


def hard_concrete(question: Question) -> np.ndarray:
    """Stochastic gates with an L0 penalty, [prompt, layer, neuron]; [1, ...] if shared."""
    return _masks(question, "hard-concrete")


def settings_of(question: Question, gate: str, held_out: Question | None) -> dict[str, Any]:
    """All settings that masks are learned with, to be written beside what they found.

    Args:
        question: What is asked, with the settings given.
        gate: Which masks.
        held_out: The same of held-out prompts, on which learning rate and strength are chosen
            unless they are given; what was tried is told under `chosen_on`.

    Raises:
        EffectError: If a setting is wrong, or held-out prompts are among those asked about.
    """
    given = question.settings
    config = _config(question, gate)
    beside: dict[str, Any] = {"shared": bool(given.get("shared"))}
    if held_out is not None:
        asked = {aim.tokens for listed in question.aims for aim in listed}
        if any(aim.tokens in asked for aim in held_out.flat):
            raise EffectError(
                "Held-out prompts are among those that are located",
                mend="Give held_out= prompts of their own.",
            )
        chosen = choose_settings(
            question.model,
            held_out.aims,
            config,
            warm=_warm(held_out, config),
            shared=beside["shared"],
            others=_spared(held_out),
            rates=[given["learning_rate"]] if "learning_rate" in given else RATES,
            strengths=[given["strength"]] if "strength" in given else STRENGTHS,
        )
        config = chosen.config
        beside["chosen_on"] = {"prompts": len(held_out.prompts), "tried": chosen.tried}
    listed = {name: getattr(config, name) for name in SETTINGS if name != "shared"}
    if config.budget is not None:
        del listed["strength"]  # which a budget stands in for
    return {**listed, **beside}


def _masks(question: Question, gate: str) -> np.ndarray:
    shared, config = bool(question.settings.get("shared")), _config(question, gate)
    warm = _warm(question, config)
    if shared:
        warm = warm.mean(0, keepdims=True)
    found = learn_masks(
        question.model, question.aims, config, warm=warm, shared=shared, others=_spared(question)
    ).scores
    largest = np.abs(warm).max(axis=(1, 2), keepdims=True)
    return found + _LEAST * warm / np.maximum(largest, 1e-30)


def _config(question: Question, gate: str) -> MaskConfig:
    given: dict[str, Any] = {k: v for k, v in question.settings.items() if k not in _BESIDE}
    return replace(MaskConfig(**given), gate=gate, seed=question.seed)


def _warm(question: Question, config: MaskConfig) -> np.ndarray:
    everywhere = config.positions == "all"
    return (gradient_activation_everywhere if everywhere else gradient_activation)(question)


def _spared(question: Question) -> Sequence[Sequence[Aim]]:
    """Other prompts' answers, where one mask is to spare them."""
    if not (question.settings.get("shared") and question.others):
        return ()
    return make_aims(question.model, question.others, "answer")
