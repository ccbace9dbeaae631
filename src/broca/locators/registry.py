"""All locators by name, and the one function that runs them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from broca.attributions.precision import computed_in
from broca.effects.aims import TargetLike, make_aims
from broca.errors import EffectError, known_names
from broca.locators import activation, contrast, direct, exact, gradients, integrated, masks
from broca.locators import random as chance
from broca.locators.locator import SITE, Located, Locator, Question
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.prompts import Prompt

_RUNNING = ("form", "internal_batch_size", "dtype")
_INTEGRAL = ("n_steps", "path", "routing", *_RUNNING)
_ALL = (
    Locator(
        "exact",
        "exact effect",
        exact.exact_effect,
        {"replacement": "zero"},
        ("prefilter", "sample", *_RUNNING),
    ),
    Locator(
        "hard-concrete",
        "hard-concrete masks",
        masks.hard_concrete,
        further=masks.SETTINGS,
        learned=True,
    ),
    Locator("slimming", "slimming masks", masks.slimming, further=masks.SETTINGS, learned=True),
    Locator(
        "ig",
        "integrated gradients",
        integrated.integrated_gradients,
        {"method": "auto"},
        _INTEGRAL,
    ),
    Locator(
        "ig-16",
        "integrated gradients, the paper's rule",
        integrated.integrated_gradients,
        {"method": "riemann-right", "n_steps": 16},
        _INTEGRAL,
    ),
    Locator("gradient-activation", "gradient × activation", gradients.gradient_activation),
    Locator(
        "frozen-gradient-activation",
        "gradient × activation, norms and attention held",
        gradients.frozen_gradient_activation,
    ),
    Locator(
        "gradient-activation-everywhere",
        "gradient × activation, every position",
        gradients.gradient_activation_everywhere,
    ),
    Locator("gradient", "gradient × sign (NeurGrad)", gradients.gradient_sign),
    Locator("direct", "direct log-prob increase", direct.direct_increase, {"prefilter": None}),
    Locator("activation", "activation × length", activation.activation),
    Locator("expertise", "average precision", contrast.expertise, contrast=True),
    Locator("mean-difference", "mean difference", contrast.mean_difference, contrast=True),
    Locator("firing", "log-odds of firing (LAPE)", contrast.firing, contrast=True),
    Locator("random", "random", chance.random_numbers),
)

LOCATORS: Mapping[str, Locator] = {locator.name: locator for locator in _ALL}
"""Name -> locator, those that come nearest to the truth first."""


def find_locator(name: str) -> Locator:
    """The locator of this name.

    Raises:
        EffectError: If there is none.
    """
    if name not in LOCATORS:
        raise EffectError(f"There is no locator {name!r}", mend=f"{known_names(name, LOCATORS)}.")
    return LOCATORS[name]


def locate(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    method: str,
    /,
    *,
    target: TargetLike = "answer",
    others: Sequence[Prompt] = (),
    held_out: Sequence[Prompt] = (),
    seed: int = 0,
    **settings: Any,
) -> Located:
    """Give every hidden neuron a number for each prompt's answer.

    Args:
        model: The model under study.
        prompts: Prompts with answers.
        method: A name out of :data:`LOCATORS`.
        target: What is read, as in :func:`broca.ablate_each`; log P of the whole answer.
        others: Prompts of other relations, for methods that contrast and for shared masks.
        held_out: Further prompts, on which learned masks' learning rate and strength are chosen
            where these are not given; read as `target` if that is a word or one token.
        seed: Of whatever is drawn.
        **settings: The method's own settings.

    Raises:
        EffectError: If there is no such method, it lacks what it needs, or a setting is wrong.
        AttributionError: If a prompt's answer has no token.
        PromptError: If a prompt has no token or exceeds the context.
    """
    locator = find_locator(method)
    _check(locator, settings, held_out)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise EffectError("seed must be a whole number from 0 on", repr(seed))
    if locator.contrast and not others:
        raise EffectError(
            f"The method {method!r} contrasts prompts with others and got none",
            mend="Pass others=, prompts of other relations.",
        )
    chosen = {**locator.settings, **settings}
    with computed_in(model.module, torch.float32):
        aims = make_aims(model, prompts, target)
        question = Question(model, aims, prompts, others, seed, chosen)
        if locator.learned:
            apart = _held_out(question, held_out, target) if held_out else None
            chosen = masks.settings_of(question, method, apart)
            question = replace(question, settings=chosen)
        start = time.process_time()
        values = np.asarray(locator.function(question), np.float32)
        seconds = (time.process_time() - start) / len(prompts)
    if np.isinf(values).any() or not np.isfinite(values).any():
        raise EffectError(f"The method {method!r} gave numbers that are not finite", model.name)
    index = NeuronIndex(model.identity, (SITE,))
    values = index.as_grid(index.of_grid(values))  # nothing behind the end of a layer
    return Located(values, model.identity, method, {**chosen, "seed": seed}, seconds)


def _check(locator: Locator, settings: Mapping[str, Any], held_out: Sequence[Prompt]) -> None:
    """Refuse what a method has no use for.

    Raises:
        EffectError: A setting is not one of its own, or held-out prompts are of no use to it.
    """
    known = (*locator.settings, *locator.further)
    unknown = [name for name in settings if name not in known]
    if unknown:
        has = f"It has {', '.join(dict.fromkeys(known))}." if known else "It has none."
        raise EffectError(f"The method {locator.name!r} has no setting {unknown[0]!r}", mend=has)
    if held_out and not locator.learned:
        raise EffectError(
            f"The method {locator.name!r} has nothing to choose on held-out prompts",
            mend="Leave out held_out=.",
        )


def _held_out(question: Question, prompts: Sequence[Prompt], target: TargetLike) -> Question:
    """The same question about held-out prompts, with no more prompts of others than these."""
    one = target if isinstance(target, (str, int)) else "answer"
    aims = make_aims(question.model, prompts, one)
    return replace(question, aims=aims, prompts=prompts, others=question.others[: len(prompts)])
