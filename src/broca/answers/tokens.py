"""Answers at the border of prompt and answer, as tokens.

Tokenizers differ in whether the space before an answer belongs to its first token, stands alone
or is dropped. Nothing is assumed: prompt and answer are tokenised together, with and without a
space, and what follows the prompt's own tokens is the answer. Both count as right; the variant
that the model itself gives more probability is the one whose log P is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from broca.model import LanguageModel
from broca.prompts import Prompt

BORDERS = (" ", "")


def answer_tokens(model: LanguageModel, text: str, answer: str, border: str) -> tuple[int, ...]:
    """Tokens of an answer after a prompt, () where the border melts into the prompt's tokens."""
    prompt, whole = model.tokenize(text), model.tokenize(text + border + answer)
    return tuple(whole[len(prompt) :]) if whole[: len(prompt)] == prompt else ()


def n_blank(model: LanguageModel, tokens: Sequence[int]) -> int:
    """How many leading tokens are white space alone: they are no tokens of an answer."""
    count = 0
    for token in tokens:
        text = model.tokenizer.decode([token])
        if text.strip() or not text:
            break
        count += 1
    return count


@torch.no_grad()
def measure_border(
    model: LanguageModel, prompts: Sequence[Prompt], sample: int = 64, *, batch_size: int = 32
) -> str:
    """Whether this model puts a space before its answers: the border of more probability.

    Args:
        model: The model under study.
        prompts: Prompts with answers; at most ``sample`` of them, evenly spaced, are read.
        sample: How many.
        batch_size: Prompts per pass.

    Returns:
        ``" "`` or ``""``.
    """
    chosen = list(prompts)[:: max(1, len(prompts) // sample)][:sample]
    totals = dict.fromkeys(BORDERS, 0.0)
    for start in range(0, len(chosen), batch_size):
        part = chosen[start : start + batch_size]
        probabilities = model.probabilities([prompt.text for prompt in part])
        for prompt, row in zip(part, probabilities, strict=True):
            for border in BORDERS:
                firsts = {
                    tokens[0]
                    for answer in prompt.answers
                    if (tokens := answer_tokens(model, prompt.text, answer, border))
                }
                totals[border] += sum(float(row[token]) for token in firsts)
    return max(BORDERS, key=lambda border: totals[border])
