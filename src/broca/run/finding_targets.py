"""Letters and words of prompts as plain values: found by whoever computes, read by the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broca.choices import Letters, Words, find_letters, find_words
from broca.model import LanguageModel
from broca.prompts import ChoicePrompt, Prompt
from broca.run.keeping import Item

TOGETHER = 32  # prompts found and kept together: one pass of letters


@dataclass(frozen=True)
class FindingLetters:
    """Finds the letters of some prompts, written in a way."""

    variant: str
    batch_size: int = TOGETHER

    def __call__(self, model: LanguageModel, prompts: Sequence[ChoicePrompt]) -> dict[str, Any]:
        found = find_letters(model, prompts, variant=self.variant, batch_size=self.batch_size)
        names = ("tokens", "candidates", "variant", "target", "p", "correct")
        return {"found": [{name: getattr(one, name) for name in names} for one in found]}

    def read(self, prompt: ChoicePrompt, plain: Mapping[str, Any]) -> Letters:
        """What was found of a prompt."""
        return Letters(prompt, **_tuples(plain))


@dataclass(frozen=True)
class FindingWords:
    """Finds the answers in words of some prompts."""

    def __call__(self, model: LanguageModel, prompts: Sequence[Prompt]) -> dict[str, Any]:
        names = ("tokens", "rights", "target", "p", "p_tokens", "correct", "said")
        found = find_words(model, prompts)
        return {"found": [{name: getattr(one, name) for name in names} for one in found]}

    def read(self, prompt: Prompt, plain: Mapping[str, Any]) -> Words:
        """What was found of a prompt."""
        return Words(prompt, **_tuples(plain))


def items_of(finding: FindingLetters | FindingWords, prompts: Sequence[Prompt]) -> list[Item]:
    """Prompts in portions, with all that determines what is found of them."""
    variant = finding.variant if isinstance(finding, FindingLetters) else ""
    parts = [prompts[start : start + TOGETHER] for start in range(0, len(prompts), TOGETHER)]
    return [({"prompts": [_asks(one) for one in part], "variant": variant}, part) for part in parts]


def _asks(prompt: Prompt) -> list[Any]:
    about: list[Any] = [prompt.id, prompt.text, list(prompt.answers)]
    if isinstance(prompt, ChoicePrompt):
        about += [list(prompt.labels), prompt.answer]
    return about


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as_tuple(value) for name, value in plain.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
