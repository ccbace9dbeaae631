"""Batches of prompts with the tokens of their measured answers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.answers import Target
from broca.model import LanguageModel, TokenBatch


@dataclass
class PromptBatch:
    """Rows of one batch: a prompt and one of its measured answers each."""

    owners: list[int]
    batch: TokenBatch
    width: int  # tokens per row up to the prompt's end
    extra: int  # answer tokens after it
    answers: Tensor  # padded with -1, [row, extra + 1]

    def times(self, n: int) -> PromptBatch:
        """So many copies beside each other; owners are counted on from copy to copy."""
        if n == 1:
            return self
        apart = max(self.owners) + 1
        owners = [copy * apart + owner for copy in range(n) for owner in self.owners]
        batch = TokenBatch(*(t.repeat(n, 1) for t in vars(self.batch).values()))
        return PromptBatch(owners, batch, self.width, self.extra, self.answers.repeat(n, 1))


def prompt_batches(
    model: LanguageModel, targets: Sequence[Target], with_log_p: bool, batch_size: int
) -> list[PromptBatch]:
    """Prompts of similar length together, a row for each of their measured answers.

    Args:
        model: The model under study.
        targets: The right answers, prompt by prompt.
        with_log_p: Whether answers are measured; without, a row holds the prompt alone.
        batch_size: Rows per batch.
    """
    answers = [target.measured if with_log_p else ((),) for target in targets]
    lengths = [len(target.prompt) for target in targets]
    longest = [max(map(len, listed), default=0) for listed in answers]
    order = sorted(range(len(targets)), key=lambda i: (lengths[i], longest[i], i))
    batches, owners, n_rows = [], [], 0
    for owner in order:
        longer = bool(owners) and lengths[owner] > lengths[owners[-1]]
        apart = longer and not model.drive.pads
        # Rows of one length need no padding mask, but tiny batches cost more than padding does.
        if n_rows and (
            n_rows + len(answers[owner]) > batch_size or longer * 4 * n_rows > batch_size or apart
        ):
            batches.append(_batch(model, targets, answers, owners))
            owners, n_rows = [], 0
        owners.append(owner)
        n_rows += len(answers[owner])
    if owners:
        batches.append(_batch(model, targets, answers, owners))
    return batches


def _batch(
    model: LanguageModel,
    targets: Sequence[Target],
    answers: Sequence[Sequence[tuple[int, ...]]],
    owners: Sequence[int],
) -> PromptBatch:
    rows = [(owner, answer) for owner in owners for answer in answers[owner]]
    prompt = model.pad([targets[owner].prompt for owner, _ in rows])
    extra = max(max(len(answer) for _, answer in rows) - 1, 0)
    padded = torch.full((len(rows), extra + 1), -1)
    for row, (_, answer) in enumerate(rows):
        padded[row, : len(answer)] = torch.tensor(answer, dtype=torch.long)
    padded = padded.to(prompt.ids.device)
    batch = append(prompt, padded[:, :extra].clamp(min=0))
    return PromptBatch([owner for owner, _ in rows], batch, prompt.ids.shape[1], extra, padded)


def append(prompt: TokenBatch, tail: Tensor) -> TokenBatch:
    """Put each answer's tokens behind its prompt; what follows an answer's end is never seen."""
    if not tail.shape[1]:
        return prompt
    steps = torch.arange(1, tail.shape[1] + 1, device=tail.device)
    return TokenBatch(
        torch.cat([prompt.ids, tail], 1),
        torch.cat([prompt.attention_mask, torch.ones_like(tail)], 1),
        torch.cat([prompt.position_ids, prompt.position_ids[:, -1:] + steps], 1),
    )
