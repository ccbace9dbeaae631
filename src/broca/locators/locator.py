"""What all locators share: what they are asked, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from broca.effects.aims import Aim
from broca.errors import EffectError
from broca.model import LanguageModel
from broca.neurons import ModelIdentity, NeuronIndex, NeuronSet
from broca.prompts import Prompt
from broca.scores import NeuronScores

SITE = "hidden"


@dataclass(frozen=True)
class Question:
    """What a locator is asked.

    Attributes:
        model: The model under study.
        aims: Per prompt, what is read: one aim per token of the answer.
        prompts: The prompts.
        others: Prompts of other relations or queries, for locators that contrast.
        seed: Of whatever is drawn.
        settings: The locator's own settings.
    """

    model: LanguageModel
    aims: Sequence[Sequence[Aim]]
    prompts: Sequence[Prompt]
    others: Sequence[Prompt] = ()
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flat(self) -> list[Aim]:
        """The aims of all prompts, one after the other."""
        return [aim for listed in self.aims for aim in listed]

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Values of each aim [aim, ...] summed over the tokens of each answer, [prompt, ...]."""
        starts = np.cumsum([0, *(len(listed) for listed in self.aims)])[:-1]
        return np.add.reduceat(values, starts, axis=0)

    @property
    def positions(self) -> list[list[int]]:
        """Token ids up to the first position read, per prompt."""
        return [list(listed[0].tokens) for listed in self.aims]


Locate = Callable[[Question], np.ndarray]
"""Gives float [prompt, layer, neuron], or [1, layer, neuron] for all prompts together."""


@dataclass(frozen=True)
class Locator:
    """One way to give every neuron a number.

    Attributes:
        name: As settings and tables name it.
        title: As sentences name it.
        function: Does it.
        settings: Its own settings with their defaults.
        further: Names of settings that it takes besides.
        contrast: Whether it needs prompts of other relations or queries.
        learned: Whether it learns masks, see :class:`broca.locators.masks.MaskConfig`.
    """

    name: str
    title: str
    function: Locate
    settings: Mapping[str, Any] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    contrast: bool = False
    learned: bool = False


@dataclass(frozen=True, eq=False)
class Located:
    """A number per neuron and prompt.

    Attributes:
        values: float32 [prompt, layer, neuron], high where the neuron supports the answer; locators
            that contrast, and shared masks, give one row for all prompts together. NaN: not
            measured (exact effects with a prefilter). 0 behind the end of a layer that is narrower
            than others, where no neuron is.
        identity: The model.
        method: The locator's name.
        settings: All its settings.
        seconds: CPU seconds per prompt.
    """

    values: np.ndarray
    identity: ModelIdentity
    method: str
    settings: Mapping[str, Any]
    seconds: float

    def of_prompt(self, number: int) -> np.ndarray:
        """The values for one prompt, [layer, neuron]; neurons not measured come last."""
        values = self.values[number if len(self.values) > 1 else 0]
        return np.nan_to_num(values, nan=float(np.nanmin(values)) - 1.0)

    def mean(self) -> np.ndarray:
        """The mean over the prompts, float64 [layer, neuron]; what was not measured counts as 0."""
        return np.nan_to_num(self.values).mean(0, dtype=np.float64)

    def scores(self) -> NeuronScores:
        """The mean over the prompts, as one score per neuron."""
        index = NeuronIndex(self.identity, (SITE,))
        return NeuronScores(index, index.of_grid(self.mean()), self.method, dict(self.settings))

    def ranking(self, number: int, k: int | None = None) -> NeuronSet:
        """The first k neurons for one prompt (all by default), ties in index order.

        Raises:
            EffectError: If k is larger than the number of neurons.
        """
        index = NeuronIndex(self.identity, (SITE,))
        values = index.of_grid(self.of_prompt(number)).astype(np.float64)
        k = len(values) if k is None else k
        if not 1 <= k <= len(values):
            raise EffectError(f"{k} neurons were asked for and the model has {len(values)}")
        order = np.argsort(-values, kind="stable")[:k]
        about = {"method": self.method, "settings": dict(self.settings)}
        return index.select(order, values[order], **about)
