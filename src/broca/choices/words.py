"""Answers in words: which tokens are the answer that is measured, and whether the model says it.

1. Every right answer of a prompt is tokenised behind it, with and without a space. Of these, the
   one to which the model gives most probability is the **answer**: P(answer) is the product of
   its tokens' probabilities, each after the tokens before it.
2. A prompt is answered rightly if greedy decoding says all tokens of any right answer.

An answer of one token is the case of the letters: P of that token at the prompt's end.

Source: ours (METHODS §3, §9); the paper measures letters only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.answers import BORDERS, answer_tokens
from broca.choices.continuations import Answer, Prefix, continue_prompt, run_prefix
from broca.errors import ModelError, PromptError
from broca.model import LanguageModel
from broca.prompts import Prompt


@dataclass(frozen=True)
class Words:
    """One prompt with the tokens of its answer.

    Attributes:
        prompt: The prompt.
        tokens: Its token ids.
        rights: Token ids of every right answer, over wordings of the answer and borders.
        target: Of these, the answer that is measured.
        p: Its probability.
        p_tokens: Probability of each of its tokens after those before it.
        correct: Whether greedy decoding says a right answer.
        said: What greedy decoding says, up to where it leaves the answer.
    """

    prompt: Prompt
    tokens: tuple[int, ...]
    rights: tuple[Answer, ...]
    target: Answer
    p: float
    p_tokens: tuple[float, ...]
    correct: bool
    said: str


def find_words(model: LanguageModel, prompts: Sequence[Prompt]) -> Iterator[Words]:
    """Yield every prompt with the tokens of its answer, in the order given.

    Args:
        model: The model under study.
        prompts: Prompts with right answers.

    Raises:
        PromptError: An answer has no tokens of its own behind its prompt, or does not fit the
            context.
        ModelError: Probabilities are not finite.
    """
    for prompt in prompts:
        tokens = tuple(model.encode([prompt.text])[0])
        rights = right_answers(model, prompt, tokens)
        yield _measured(model, prompt, run_prefix(model, tokens), rights)


def right_answers(
    model: LanguageModel, prompt: Prompt, tokens: Sequence[int]
) -> tuple[Answer, ...]:
    """Token ids of every right answer behind a prompt, with and without a space.

    Raises:
        PromptError: There is none, or one does not fit the context.
    """
    found = [
        written
        for answer in prompt.answers
        for border in BORDERS
        if (written := answer_tokens(model, prompt.text, answer, border))
    ]
    if not found:
        raise PromptError(
            "The answer has no tokens of its own",
            f"prompt {prompt.id}: {', '.join(prompt.answers)}",
            "The tokenizer merges it with the prompt; end the prompt differently.",
        )
    model.check_length([*tokens, *max(found, key=len)], prompt.text)
    return tuple(dict.fromkeys(found))


def _measured(
    model: LanguageModel, prompt: Prompt, prefix: Prefix, rights: tuple[Answer, ...]
) -> Words:
    logits = continue_prompt(model, prefix, rights, [None] * len(rights))
    log_p = token_log_p(logits, rights)
    if not all(np.isfinite(one).all() for one in log_p):
        raise ModelError(
            "Probabilities are not finite",
            f"prompt {prompt.id}",
            "The model overflows on this prompt; load it in float32 or bfloat16.",
        )
    best = max(range(len(rights)), key=lambda row: log_p[row].sum())
    greedy = logits.argmax(-1).tolist()
    return Words(
        prompt=prompt,
        tokens=prefix.tokens,
        rights=rights,
        target=rights[best],
        p=float(np.exp(log_p[best].sum())),
        p_tokens=tuple(np.exp(log_p[best]).tolist()),
        correct=any(says(row, right) for row, right in zip(greedy, rights, strict=True)),
        said=spoken(model, greedy[best], rights[best]),
    )


def token_log_p(logits: Tensor, answers: Sequence[Answer]) -> list[np.ndarray]:
    """Log P of each answer's tokens, from logits [row, position, vocab]; float64 [token] each."""
    total = logits.logsumexp(-1)
    found = []
    for row, answer in enumerate(answers):
        place = torch.arange(len(answer), device=logits.device)
        chosen = logits[row, place, torch.tensor(answer, device=logits.device)]
        found.append((chosen - total[row, : len(answer)]).double().cpu().numpy())
    return found


def says(greedy: Sequence[int], answer: Answer) -> bool:
    """Whether the most probable tokens at an answer's positions are the answer."""
    return tuple(greedy[: len(answer)]) == answer


def spoken(model: LanguageModel, greedy: Sequence[int], answer: Answer) -> str:
    """What greedy decoding says, up to the first token that is not the answer's."""
    same = 0
    while same < len(answer) and greedy[same] == answer[same]:
        same += 1
    return model.tokenizer.decode(list(greedy[: same + 1][: len(answer)]), skip_special_tokens=True)
