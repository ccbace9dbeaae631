"""What is attributed: a prompt's tokens and the token whose probability is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.answers import BORDERS, answer_tokens
from broca.errors import AttributionError
from broca.model import LanguageModel
from broca.prompts import Prompt


@dataclass(frozen=True)
class Item:
    """One prompt to attribute.

    Attributes:
        id: The prompt's id, or its number.
        tokens: Its token ids.
        candidates: Target tokens; the one that the model gives most probability is taken.
    """

    id: str
    tokens: tuple[int, ...]
    candidates: tuple[int, ...]


def make_items(
    model: LanguageModel,
    prompts: Sequence[Prompt | str | Sequence[int]],
    target: str | int | Sequence[int],
) -> list[Item]:
    """Tokenise prompts and find their target tokens.

    Args:
        model: The model under study.
        prompts: Prompts, texts, or lists of token ids.
        target: ``"answer"`` (each prompt's own answer, with or without a space), one token id for
            all prompts, or one per prompt.

    Raises:
        AttributionError: If there is no prompt, targets and prompts do not match, or an answer
            has more than one token.
        PromptError: If a prompt has no token or exceeds the context.
    """
    if isinstance(prompts, (str, Prompt)):
        prompts = [prompts]
    if len(prompts) == 0:
        raise AttributionError("There is no prompt to attribute")
    given = _given_targets(target, len(prompts))
    items = []
    for number, prompt in enumerate(prompts):
        tokens = _tokens(model, prompt)
        name = prompt.id if isinstance(prompt, Prompt) else str(number)
        candidates = _answer_candidates(model, prompt) if given is None else (given[number],)
        items.append(Item(name, tokens, candidates))
    return items


def _given_targets(target: str | int | Sequence[int], n_prompts: int) -> list[int] | None:
    if isinstance(target, str):
        if target != "answer":
            raise AttributionError(
                f"Unknown target {target!r}", mend='Pass "answer" or token ids, one per prompt.'
            )
        return None
    listed = [int(t) for t in np.atleast_1d(np.asarray(target))]
    listed = listed * n_prompts if len(listed) == 1 else listed
    if len(listed) != n_prompts:
        raise AttributionError(f"There are {n_prompts} prompts and {len(listed)} target tokens")
    return listed


def _tokens(model: LanguageModel, prompt: Prompt | str | Sequence[int]) -> tuple[int, ...]:
    if isinstance(prompt, Prompt):
        prompt = prompt.text
    if isinstance(prompt, str):
        return tuple(model.encode([prompt])[0])
    tokens = tuple(int(token) for token in prompt)
    model.check_length(tokens, f"{len(tokens)} token ids")
    return tokens


def answer_variants(model: LanguageModel, prompt: Prompt) -> list[tuple[int, ...]]:
    """Tokens of every right answer of a prompt, with and without a space before it.

    Raises:
        AttributionError: If it has no answer with tokens of its own.
    """
    found = [
        tokens
        for answer in prompt.answers
        if answer.strip()  # the border alone is no answer
        for border in BORDERS
        if (tokens := answer_tokens(model, prompt.text, answer, border))
    ]
    if not found:
        raise AttributionError("The prompt has no answer with tokens of its own", prompt.id)
    return list(dict.fromkeys(found))


def _answer_candidates(model: LanguageModel, prompt: object) -> tuple[int, ...]:
    if not isinstance(prompt, Prompt):
        raise AttributionError(
            "Texts and token ids carry no answer", mend="Pass target= as token ids."
        )
    single = tuple(tokens[0] for tokens in answer_variants(model, prompt) if len(tokens) == 1)
    if not single:
        raise AttributionError(
            f"No answer of {prompt.answers} is a single token",
            prompt.id,
            "Use attribute_answer_tokens for free-form answers.",
        )
    return single


def choose_targets(items: Sequence[Item], logits: Tensor) -> Tensor:
    """Each item's most probable candidate, [prompt], by logits [prompt, vocab]."""
    vocabulary = logits.shape[-1]
    chosen = []
    for item, row in zip(items, logits, strict=True):
        wrong = [token for token in item.candidates if not 0 <= token < vocabulary]
        if wrong:
            raise AttributionError(
                f"Target token {wrong[0]} is outside the vocabulary of {vocabulary}",
                f"prompt {item.id}",
            )
        candidates = torch.tensor(item.candidates, device=logits.device)
        chosen.append(candidates[row[candidates].argmax()])
    return torch.stack(chosen)
