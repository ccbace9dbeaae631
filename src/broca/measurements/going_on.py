"""Greedy tokens: those known from the pass over the answers, and further ones where they are
needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from broca.answers import Target
from broca.answers.targets import N_PREFIX
from broca.interventions import Intervention
from broca.measurements.active import active
from broca.measurements.batches import PromptBatch, append
from broca.model import LanguageModel, TokenBatch
from broca.model.resume import KeysValues, Pass, crop


def read_off(asked: PromptBatch, greedy: Tensor) -> tuple[dict[int, list[int]], dict[int, int]]:
    """By owner: greedy tokens known from the pass over the answers, and the row that knows most.

    Greedy tokens [row, extra + 1] are a continuation up to the first that is not the answer's.
    """
    agree = (greedy[:, : asked.extra] == asked.answers[:, : asked.extra]).long().cumprod(1).sum(1)
    said: dict[int, list[int]] = {}
    row_of: dict[int, int] = {}
    known = zip(asked.owners, greedy.tolist(), agree.tolist(), strict=True)
    for row, (owner, tokens, n) in enumerate(known):
        if len(said.get(owner, ())) <= n:
            said[owner], row_of[owner] = tokens[: n + 1], row
    return said, row_of


def is_open(model: LanguageModel, target: Target, said: Sequence[int]) -> bool:
    """Whether more tokens are needed: to decide, or to be shown up to the end of the line."""
    if target.verdict(said) is None or len(said) < min(target.n_shown, N_PREFIX):
        return True
    return len(said) < target.n_shown and not model.ends_line(said[-1])


def cut(model: LanguageModel, target: Target, said: list[int]) -> list[int]:
    """The tokens that were needed: how many are known depends on the batch."""
    lengths = range(1, len(said) + 1)
    return said[: next((n for n in lengths if not is_open(model, target, said[:n])), len(said))]


def go_on(
    model: LanguageModel,
    asked: PromptBatch,
    targets: Mapping[int, Target],
    said: dict[int, list[int]],
    owners: list[int],
    past: KeysValues,
    rows: Tensor,
    change_of: Mapping[int, Intervention | None],
) -> None:
    """Run greedy tokens behind some prompts until none of them needs more.

    Args:
        targets: Of each owner.
        said: What is known of each owner's continuation, alike long for all of them; grows.
        owners: Who goes on, copy by copy.
        past: Keys and values of their prompts, which have these rows in the batch.
        change_of: What is done to each.
    """
    mask = asked.batch.attention_mask[rows, : asked.width]
    position = asked.batch.position_ids[rows, asked.width - 1 : asked.width]
    new = [said[owner] for owner in owners]
    while owners:
        ids = torch.tensor(new, device=mask.device)
        steps = torch.arange(1, ids.shape[1] + 1, device=mask.device)
        batch = TokenBatch(ids, torch.ones_like(ids), position + steps)
        if model.drive.caches:
            with active(model, _blocks(owners, change_of), prompt_active=False):
                step = model.run(batch, past=past, past_mask=mask)
        else:
            blocks = _blocks(owners, change_of)
            step = _whole_prompts(model, asked, rows, [said[owner] for owner in owners], blocks)
        for owner, token in zip(owners, step.logits[:, -1].argmax(-1).tolist(), strict=True):
            said[owner].append(token)
        open_rows = [row for row, o in enumerate(owners) if is_open(model, targets[o], said[o])]
        owners = [owners[row] for row in open_rows]
        kept = torch.tensor(open_rows, dtype=torch.long, device=mask.device)
        rows = rows[kept]
        mask = torch.cat([mask, batch.attention_mask], 1)[kept]
        position = batch.position_ids[kept, -1:]
        past = crop(step.keys_values, kept, mask.shape[1])
        new = [said[owner][-1:] for owner in owners]


def _blocks(
    owners: Sequence[int], change_of: Mapping[int, Intervention | None]
) -> list[tuple[int, Intervention | None]]:
    """Rows beside each other to which the same is done."""
    blocks: list[tuple[int, Intervention | None]] = []
    for owner in owners:
        change = change_of[owner]
        if blocks and blocks[-1][1] is change:
            blocks[-1] = (blocks[-1][0] + 1, change)
        else:
            blocks.append((1, change))
    return blocks


def _whole_prompts(
    model: LanguageModel,
    asked: PromptBatch,
    rows: Tensor,
    said: Sequence[Sequence[int]],
    blocks: Sequence[tuple[int, Intervention | None]],
) -> Pass:
    """Prompts and what was said, all again: where keys and values carry no next token."""
    prompts = TokenBatch(*(t[rows, : asked.width] for t in vars(asked.batch).values()))
    batch = append(prompts, torch.tensor(said, device=prompts.ids.device))
    with active(model, blocks, after_prompt=len(said[0])):
        return model.run(batch)
