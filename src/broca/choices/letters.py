"""Which token stands for a label: the bare letter, or the letter with a space before it.

1. Every label is tokenised behind the prompt, bare and with a space; its first token stands for
   it. A way in which two labels begin with the same token cannot tell them apart and is dropped.
2. Of the ways left, the target is taken from the one to which the model gives more probability
   after this prompt (`auto`), or from the one asked for.

Source: arXiv 2406.10868, section 3 (its released runs take the bare letter); METHODS §3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.answers import answer_tokens
from broca.errors import PromptError, QuestionsError
from broca.model import LanguageModel
from broca.prompts import ChoicePrompt

LETTER_VARIANTS = ("auto", "bare", "space")
_BORDERS = {"bare": "", "space": " "}


@dataclass(frozen=True)
class Letters:
    """One prompt with the tokens of its labels.

    Attributes:
        prompt: The prompt.
        tokens: Its token ids.
        candidates: Per label, the tokens that may stand for it.
        variant: "bare" or "space": how the target is written.
        target: The token of the right label whose probability is measured.
        p: Its probability, softmax over the whole vocabulary in float32.
        correct: Whether no other label has a more probable token.
    """

    prompt: ChoicePrompt
    tokens: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    variant: str
    target: int
    p: float
    correct: bool

    def best_logits(self, logits: Tensor) -> Tensor:
        """Logit of every label's most probable token [row, label], of logits [row, vocab]."""
        return torch.stack([logits[:, list(tokens)].amax(-1) for tokens in self.candidates], dim=-1)


@torch.no_grad()
def find_letters(
    model: LanguageModel,
    prompts: Sequence[ChoicePrompt],
    *,
    variant: str = "auto",
    batch_size: int = 32,
) -> Iterator[Letters]:
    """Yield every prompt with its letter tokens, in the order given.

    Args:
        model: The model under study.
        prompts: Questions with options.
        variant: "auto", "bare" or "space".
        batch_size: Prompts per pass.

    Raises:
        QuestionsError: Labels begin with the same token.
        PromptError: An unknown variant, one that this tokenizer does not have, or a prompt
            beyond the context.
        ModelError: Logits are not finite.
    """
    if variant not in LETTER_VARIANTS:
        raise PromptError(
            "unknown way to write a letter", variant, f"Use {', '.join(LETTER_VARIANTS)}"
        )
    tokens = model.encode([prompt.text for prompt in prompts])
    found: dict[int, Letters] = {}
    for part in model.batches([len(ids) for ids in tokens], batch_size):
        logits = model.logits(model.pad([tokens[i] for i in part]))[:, -1]
        for i, row in zip(part, logits, strict=True):
            found[i] = _letters(model, prompts[i], tokens[i], row, variant)
    yield from (found[i] for i in range(len(prompts)))


def _letters(
    model: LanguageModel, prompt: ChoicePrompt, tokens: Sequence[int], row: Tensor, variant: str
) -> Letters:
    ways = label_tokens(model, prompt)
    if variant != "auto" and variant not in ways:
        raise PromptError(
            f"this tokenizer has no {variant} letters after the prompt", prompt.id, 'Use "auto"'
        )
    allowed = ways if variant == "auto" else {variant: ways[variant]}
    p = row.softmax(-1)
    name = max(allowed, key=lambda way: float(p[allowed[way][prompt.answer]]))
    target = allowed[name][prompt.answer]
    candidates = tuple(tuple(dict.fromkeys(one)) for one in zip(*ways.values(), strict=True))
    best = [float(p[list(one)].max()) for one in candidates]
    correct = best.index(max(best)) == prompt.answer
    return Letters(prompt, tuple(tokens), candidates, name, int(target), float(p[target]), correct)


def label_tokens(model: LanguageModel, prompt: ChoicePrompt) -> dict[str, list[int]]:
    """Variant -> first token of every label, for the variants that tell all labels apart.

    Raises:
        QuestionsError: There is none.
    """
    ways = {}
    for name, border in _BORDERS.items():
        written = [answer_tokens(model, prompt.text, label, border) for label in prompt.labels]
        firsts = [one[0] for one in written if one]
        if len(set(firsts)) == len(prompt.labels):
            ways[name] = firsts
    if not ways:
        raise QuestionsError(
            "labels begin with the same token",
            f"prompt {prompt.id}: {', '.join(prompt.labels)}",
            "Use labels that the tokenizer tells apart, such as A, B, C, D",
        )
    return ways
