"""One batch under all conditions: layers that no condition edits run once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.answers import Target
from broca.interventions import Intervention, first_layer
from broca.measurements.active import active
from broca.measurements.batches import PromptBatch
from broca.measurements.going_on import cut, go_on, is_open, read_off
from broca.model import LanguageModel
from broca.model.resume import KeysValues, Pass, crop
from broca.model.routing import routing_kept, routing_replayed


@dataclass
class Answer:
    """Raw outcome of one batch under one condition."""

    said: dict[int, list[int]]  # by the owner of a prompt
    log_p: list[float]  # by row
    rank: list[int]


@torch.no_grad()
def ask(
    model: LanguageModel,
    asked: PromptBatch,
    targets: Sequence[Target],
    conditions: Mapping[str, Intervention | None],
    routing: str,
    batch_size: int,
) -> dict[str, Answer]:
    """What the batch's prompts are answered under every condition; see `answer_prompts`."""
    starts = {name: first_layer([change]) for name, change in conditions.items()}
    if not model.drive.resumes:
        starts = {name: start if start is None else 0 for name, start in starts.items()}
    shared = sorted({start for start in starts.values() if start})
    clean, kept = None, {}
    if shared or None in starts.values() or routing == "frozen":
        with routing_kept(model) if routing == "frozen" else nullcontext({}) as kept:
            clean = model.run(
                asked.batch,
                keep_inputs=shared,
                use_cache=model.drive.caches,
                logits_to_keep=asked.extra + 1,
            )
    # what the untouched pass routed is kept for one copy of the prompts
    room = 1 if routing == "frozen" else max(1, batch_size // len(asked.owners))
    found: dict[str, Answer] = {}
    for start, names in _beside_each_other(starts, room):
        copies, changes = asked.times(len(names)), [conditions[name] for name in names]
        if start is None and clean is not None:
            alike = _finish(model, asked, targets, clean, clean.keys_values, [None])
            found |= dict.fromkeys(names, alike[0])
            continue
        start = start or 0
        rows = clean.inputs[start].repeat(len(names), 1, 1) if start and clean else None
        blocks = [(len(asked.owners), change) for change in changes]
        with routing_replayed(model, kept), active(model, blocks, after_prompt=asked.extra):
            edited = model.run(
                copies.batch,
                start=start,
                rows=rows,
                use_cache=model.drive.caches,
                logits_to_keep=asked.extra + 1,
            )
        below = _repeated(clean.keys_values[:start], len(names)) if clean else []
        keys_values = [*below, *edited.keys_values[start:]]
        answers = _finish(model, copies, targets, edited, keys_values, changes)
        found |= dict(zip(names, answers, strict=True))
    return found


def _beside_each_other(
    starts: Mapping[str, int | None], room: int
) -> Iterator[tuple[int | None, list[str]]]:
    """Conditions that begin at the same layer, at most so many at once."""
    alike: dict[int | None, list[str]] = {}
    for name, start in starts.items():
        alike.setdefault(start, []).append(name)
    for start, names in alike.items():
        for first in range(0, len(names), room):
            yield start, names[first : first + room]


def _repeated(keys_values: KeysValues, n: int) -> KeysValues:
    return [
        None if pair is None else tuple(t.repeat(n, 1, 1, 1) for t in pair)  # type: ignore[misc]
        for pair in keys_values
    ]


def _finish(
    model: LanguageModel,
    asked: PromptBatch,
    targets: Sequence[Target],
    done: Pass,
    keys_values: KeysValues,
    changes: Sequence[Intervention | None],
) -> list[Answer]:
    """What each copy of the prompts is answered.

    Args:
        asked: As many copies of the prompts as there are changes.
        done: Of all copies.
        keys_values: The same.
        changes: What is done to each copy.
    """
    logits = done.logits[:, -(asked.extra + 1) :]
    said, row_of = read_off(asked, logits.argmax(-1))
    n = len(asked.owners) // len(changes)
    apart = max(asked.owners[:n]) + 1
    target_of = {owner: targets[owner % apart] for owner in said}
    by_length: dict[int, list[int]] = {}
    for owner, tokens in said.items():
        if is_open(model, target_of[owner], tokens):
            by_length.setdefault(len(tokens), []).append(owner)
    for owners in by_length.values():
        rows = torch.tensor([row_of[owner] for owner in owners], device=logits.device)
        past = crop(keys_values, rows, asked.width)
        change_of = {owner: changes[owner // apart] for owner in owners}
        go_on(model, asked, target_of, said, owners, past, rows, change_of)
    said = {owner: cut(model, target_of[owner], tokens) for owner, tokens in said.items()}
    log_p, rank = _score(logits, asked)
    found = []
    for copy in range(len(changes)):
        mine = {o % apart: tokens for o, tokens in said.items() if o // apart == copy}
        place = slice(copy * n, (copy + 1) * n)
        found.append(Answer(mine, log_p[place], rank[place]))
    return found


def _score(logits: Tensor, asked: PromptBatch) -> tuple[list[float], list[int]]:
    """Log P of each row's answer and the rank of its first token."""
    given = asked.answers >= 0
    tokens = asked.answers.clamp(min=0)
    chosen = logits.gather(-1, tokens[..., None])[..., 0]
    log_p = ((chosen - logits.logsumexp(-1)) * given).sum(1)
    rank = (logits[:, 0] > chosen[:, :1]).sum(1) + 1
    measured = given[:, 0]
    return (
        log_p.masked_fill(~measured, float("nan")).tolist(),
        rank.masked_fill(~measured, 0).tolist(),
    )
