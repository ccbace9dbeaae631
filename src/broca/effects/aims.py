"""What is read at the last position: log P of a token, or a letter's margin over its rivals.

An answer of several tokens is several aims, one per token, each at the end of prompt and answer
so far; its effect is their sum, as in :func:`broca.attribute_answer_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.attributions.targets import answer_variants, make_items
from broca.choices import find_letters
from broca.errors import AttributionError, EffectError
from broca.model import LanguageModel
from broca.prompts import ChoicePrompt, Prompt

TARGETS = ("answer", "margin")

PromptLike = Prompt | str | Sequence[int]
TargetLike = str | int | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Aim:
    """One position and what is read there.

    Attributes:
        id: The prompt's id, or its number.
        tokens: Tokens up to the position.
        target: The token whose log P is read.
        rivals: Where not empty, the margin is read instead: logit of the target minus the largest
            logit of these tokens.
    """

    id: str
    tokens: tuple[int, ...]
    target: int
    rivals: tuple[int, ...] = ()

    def read(self, logits: Tensor) -> Tensor:
        """The objective, float64 [...], of whole logits [..., vocab]."""
        if self.rivals:
            best = logits[..., list(self.rivals)].amax(-1)
            return (logits[..., self.target] - best).double()
        return logits[..., self.target].double() - logits.double().logsumexp(-1)


def make_aims(
    model: LanguageModel, prompts: Sequence[PromptLike], target: TargetLike
) -> list[list[Aim]]:
    """The aims of each prompt, one per token of its answer.

    Args:
        model: The model under study.
        prompts: Prompts, texts, or lists of token ids.
        target: ``"answer"``: each prompt's whole answer, in the way of writing it to whose first
            token the model gives most probability; ``"margin"``: of choice prompts, the right
            letter over the best wrong one; token ids, one for all prompts or one per prompt; or
            whole answers, a list of token ids per prompt.

    Raises:
        EffectError: If there is no prompt, the target is unknown or outside the vocabulary, or
            prompts lack what it needs.
        AttributionError: If a prompt's answer has no token, or prompts and tokens do not match.
        PromptError: If a prompt has no token or exceeds the context.
    """
    if len(prompts) == 0:
        raise EffectError("There is no prompt to measure effects on")
    if _are_answers(target):
        aims = _given_answers(model, prompts, target)  # type: ignore[arg-type]
    elif not isinstance(target, str):
        items = make_items(model, prompts, target)  # type: ignore[arg-type]
        aims = [[Aim(item.id, item.tokens, item.candidates[0])] for item in items]
    elif target == "answer":
        aims = [_answer(model, prompt) for prompt in prompts]
    elif target == "margin":
        aims = _margins(model, prompts)
    else:
        raise EffectError(
            f"Unknown target {target!r}", mend=f"Use {', '.join(TARGETS)} or token ids."
        )
    size = model.module.get_input_embeddings().weight.shape[0]
    for aim in (aim for listed in aims for aim in listed):
        if not 0 <= aim.target < size:
            raise EffectError(
                f"Target token {aim.target} is outside the vocabulary of {size}", f"prompt {aim.id}"
            )
    return aims


def _are_answers(target: TargetLike) -> bool:
    """Whether targets are whole answers, a list of tokens each."""
    if isinstance(target, (str, int, np.integer)) or not len(target):
        return False
    return not isinstance(target[0], (int, np.integer))


def _given_answers(
    model: LanguageModel, prompts: Sequence[PromptLike], answers: Sequence[Sequence[int]]
) -> list[list[Aim]]:
    """Raises AttributionError: There are not as many answers as prompts, or one is empty."""
    if len(answers) != len(prompts):
        raise AttributionError(f"There are {len(prompts)} prompts and {len(answers)} answers")
    for number, answer in enumerate(answers):
        if not len(answer):
            raise AttributionError("An answer has no token", f"answer {number}")
    items = make_items(model, prompts, [int(answer[0]) for answer in answers])
    aims = []
    for item, answer in zip(items, answers, strict=True):
        model.check_length((*item.tokens, *answer), f"prompt {item.id}")
        aims.append(_along(item.id, item.tokens, [int(token) for token in answer]))
    return aims


def _along(name: str, tokens: Sequence[int], answer: Sequence[int]) -> list[Aim]:
    """One aim per token of an answer, behind prompt and answer so far."""
    return [Aim(name, (*tokens, *answer[:number]), token) for number, token in enumerate(answer)]


def _answer(model: LanguageModel, prompt: PromptLike) -> list[Aim]:
    if not isinstance(prompt, Prompt):
        raise EffectError("Texts and token ids carry no answer", mend="Pass target= as token ids.")
    variants = answer_variants(model, prompt)
    tokens = tuple(model.encode([prompt.text])[0])
    first = model.logits(model.pad([tokens]))[0, -1]
    answer = max(variants, key=lambda variant: float(first[variant[0]]))
    model.check_length((*tokens, *answer), prompt.text)
    return _along(prompt.id, tokens, answer)


def _margins(model: LanguageModel, prompts: Sequence[PromptLike]) -> list[list[Aim]]:
    chosen = [prompt for prompt in prompts if isinstance(prompt, ChoicePrompt)]
    if len(chosen) != len(prompts):
        raise EffectError("A margin needs prompts with options", mend='Use target="answer".')
    aims = []
    for letters in find_letters(model, chosen):
        wrong = [
            token
            for number, tokens in enumerate(letters.candidates)
            if number != letters.prompt.answer
            for token in tokens
        ]
        rivals = tuple(dict.fromkeys(token for token in wrong if token != letters.target))
        aims.append([Aim(letters.prompt.id, letters.tokens, letters.target, rivals)])
    return aims


def objective_name(aims: Sequence[Sequence[Aim]]) -> str:
    """``margin`` or ``log-probability``."""
    return "margin" if aims[0][0].rivals else "log-probability"


def read_all(aims: Sequence[Aim], logits: Tensor) -> Tensor:
    """The objective of each prompt at its own row, [prompt], of logits [prompt, vocab]."""
    return torch.stack([aim.read(row) for aim, row in zip(aims, logits, strict=True)])


def listed(prompts: PromptLike | Sequence[PromptLike]) -> list[PromptLike]:
    """Prompts as a list, a single one included."""
    if isinstance(prompts, (str, Prompt)):
        return [prompts]
    found = list(prompts)
    single = found and all(isinstance(token, (int, np.integer)) for token in found)
    return [found] if single else found  # type: ignore[list-item]
