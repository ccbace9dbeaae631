"""What counts as the right answer, in tokens: measured at the border of prompt and answer.

Tokenizers differ in whether the space before an answer belongs to its first token, stands alone
or is dropped. Nothing is assumed: prompt and answer are tokenised together, with and without a
space, and what follows the prompt's own tokens is the answer. Both count as right; the variant
that the model itself gives more probability is the one whose log P is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from broca.errors import PromptError
from broca.model import LanguageModel
from broca.prompts import Prompt

BORDERS = (" ", "")


@dataclass(frozen=True)
class Target:
    """The right answers of a prompt as tokens.

    Attributes:
        prompt: Token ids of the prompt.
        right: Every token sequence that counts as right, over objects and borders.
        measured: The sequences whose probabilities add up to P of the answer: one per object, none
            of which begins with another one (whoever says the longer one has said the shorter).
    """

    prompt: tuple[int, ...]
    right: tuple[tuple[int, ...], ...]
    measured: tuple[tuple[int, ...], ...]

    def is_correct(self, generated: Sequence[int]) -> bool:
        """Whether the generated tokens are a prefix of a right answer's tokens.

        An answer shorter than what was generated is compared in its own length.
        """
        given = tuple(generated)
        return any(given[: len(right)] == right[: len(given)] for right in self.right)


def answer_tokens(model: LanguageModel, text: str, answer: str, border: str) -> tuple[int, ...]:
    """Tokens of an answer after a prompt, () where the border melts into the prompt's tokens."""
    prompt, whole = model.tokenize(text), model.tokenize(text + border + answer)
    return tuple(whole[len(prompt) :]) if whole[: len(prompt)] == prompt else ()


@torch.no_grad()
def measure_border(model: LanguageModel, prompts: Sequence[Prompt], sample: int = 64) -> str:
    """Whether this model puts a space before its answers: the border of more probability.

    Args:
        model: The model under study.
        prompts: Prompts with answers; at most ``sample`` of them, evenly spaced, are read.
        sample: How many.

    Returns:
        ``" "`` or ``""``.
    """
    chosen = list(prompts)[:: max(1, len(prompts) // sample)][:sample]
    totals = dict.fromkeys(BORDERS, 0.0)
    for start in range(0, len(chosen), 32):
        part = chosen[start : start + 32]
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


def find_targets(model: LanguageModel, prompts: Sequence[Prompt], border: str) -> list[Target]:
    """Tokens of each prompt and of its right answers.

    Raises:
        PromptError: If a prompt with an answer does not fit the context, or if an answer has no
            tokens of its own after the prompt, with or without a space.
    """
    return [_target(model, prompt, border) for prompt in prompts]


def _target(model: LanguageModel, prompt: Prompt, border: str) -> Target:
    ids = model.encode([prompt.text])[0]
    right: list[tuple[int, ...]] = []
    measured: list[tuple[int, ...]] = []
    for answer in prompt.answers:
        variants = {b: answer_tokens(model, prompt.text, answer, b) for b in BORDERS}
        found = [variants[b] for b in (border, *BORDERS) if variants[b]]
        if not found:
            raise PromptError(
                f"The answer {answer!r} has no tokens of its own",
                repr(prompt.text),
                "The tokenizer merges it with the prompt; end the prompt differently.",
            )
        right += [tokens for tokens in found if tokens not in right]
        if found[0] not in measured:
            measured.append(found[0])
        model.check_length([*ids, *found[0]], prompt.text + border + answer)
    return Target(tuple(ids), tuple(right), without_continuations(measured))


def without_continuations(sequences: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The sequences of which no other one is a beginning: as events they exclude each other."""
    known = set(sequences)
    return tuple(
        sequence
        for sequence in dict.fromkeys(sequences)
        if not any(sequence[:length] in known for length in range(1, len(sequence)))
    )
