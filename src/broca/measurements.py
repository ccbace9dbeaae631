"""Ask prompts under many conditions: the greedy answer, log P and rank of the right one.

1. Prompts of similar length form left-padded batches; the tokens of the measured answer follow
   each prompt, so that one pass gives log P, and the greedy tokens for as long as they are the
   answer's own, and one more.
2. The layers below the first one that a condition edits run once for all conditions; each
   condition goes on from the rows that enter that layer. Conditions that begin at the same layer
   stand beside each other in a pass, a block of rows each, as many as there is room for.
3. Where these tokens do not decide whether the answer is right (`broca.answers.targets`), or are
   too few to show, further ones are run on the condition's keys and values.

Source: paper B, sections 2 and 4 (accuracy of two greedy tokens); log P beside it is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from broca.answers import AnswersAlikeWarning, Match, Target, find_targets, measure_border
from broca.answers.targets import N_PREFIX
from broca.errors import PromptError
from broca.interventions import Intervention, first_layer, intervene
from broca.model import LanguageModel, TokenBatch
from broca.model.resume import KeysValues, Pass, crop
from broca.model.routing import ROUTINGS, routing_kept, routing_replayed
from broca.progress import track
from broca.prompts import Prompt


@dataclass(frozen=True)
class AnswerRow:
    """What a model answered to one prompt under one condition.

    Attributes:
        condition: Name of the condition.
        prompt: Id of the prompt.
        ids: The greedy tokens: two, or as many as tell whether they are a right answer.
        text: The same as words, without tokens such as the end of the text.
        correct: Whether they are a right answer, by the match asked for.
        log_p: Natural log of the probability of a right answer (their sum, if several), NaN if
            not measured.
        rank: Rank of the right answer's first token at the prompt's end, from 1; 0 if not
            measured.
    """

    condition: str
    prompt: str
    ids: tuple[int, ...]
    text: str
    correct: bool
    log_p: float
    rank: int


@dataclass
class _Job:
    """Rows of one batch: a prompt and one of its measured answers each."""

    owners: list[int]
    batch: TokenBatch
    width: int  # tokens per row up to the prompt's end
    extra: int  # answer tokens after it
    answers: Tensor  # padded with -1, [row, extra + 1]

    def times(self, n: int) -> _Job:
        """So many copies beside each other; owners are counted on from copy to copy."""
        if n == 1:
            return self
        apart = max(self.owners) + 1
        owners = [copy * apart + owner for copy in range(n) for owner in self.owners]
        batch = TokenBatch(*(t.repeat(n, 1) for t in vars(self.batch).values()))
        return _Job(owners, batch, self.width, self.extra, self.answers.repeat(n, 1))


def answer_prompts(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    conditions: Mapping[str, Intervention | None],
    *,
    border: str | None = None,
    match: Match = "auto",
    with_log_p: bool = True,
    batch_size: int = 64,
    routing: str = "free",
) -> Iterator[AnswerRow]:
    """Ask every prompt under every condition.

    Args:
        model: The model under study.
        prompts: What it is asked.
        conditions: Interventions by name; None leaves the model untouched.
        border: ``" "`` or ``""`` before an answer; measured on these prompts if None.
        match: How many tokens of an answer are compared: "auto" (enough to tell a relation's
            objects apart), "prefix" (two, as in the papers) or "whole".
        with_log_p: Whether to measure log P and rank (without, answers alone are quicker).
        batch_size: Rows per pass.
        routing: In a mixture of experts, whether under an intervention tokens go to the experts
            of the untouched pass (``"frozen"``; tokens generated after the answer go freely).

    Yields:
        One row per prompt and condition: batch by batch, conditions in the order given.

    Raises:
        PromptError: If a prompt does not fit the model, or there is no such match.
        NeuronError: If a set belongs to a model of another shape.
        ModelError: If logits are not finite.

    Warns:
        AnswersAlikeWarning: If the match takes a wrong object of a relation for right.
    """
    if routing not in ROUTINGS:
        raise PromptError(f"Unknown routing {routing!r}", mend=f"Use {' or '.join(ROUTINGS)}.")
    if border is None:
        border = measure_border(model, prompts)
    targets = find_targets(model, prompts, border, match)
    _warn_alike(prompts, targets, match)
    jobs = _jobs(model, targets, with_log_p, batch_size)
    for job in track(jobs, f"Asking under {len(conditions)} conditions"):
        answers = _ask(model, job, targets, conditions, routing, batch_size)
        for name in conditions:
            yield from _rows(model, name, job, answers[name], prompts, targets)


def _warn_alike(prompts: Sequence[Prompt], targets: Sequence[Target], match: Match) -> None:
    pairs = zip(prompts, targets, strict=True)
    for relation in sorted({prompt.relation for prompt, target in pairs if target.alike}):
        warnings.warn(
            f'match = "{match}" takes some wrong objects of {relation or "the prompts"} for right; '
            "broca.find_alike names them",
            AnswersAlikeWarning,
            stacklevel=3,
        )


def _jobs(
    model: LanguageModel, targets: Sequence[Target], with_log_p: bool, batch_size: int
) -> list[_Job]:
    answers = [target.measured if with_log_p else ((),) for target in targets]
    lengths = [len(target.prompt) for target in targets]
    longest = [max(map(len, listed), default=0) for listed in answers]
    order = sorted(range(len(targets)), key=lambda i: (lengths[i], longest[i], i))
    jobs, owners, n_rows = [], [], 0
    for owner in order:
        longer = bool(owners) and lengths[owner] > lengths[owners[-1]]
        apart = longer and not model.drive.pads
        # Rows of one length need no padding mask, but tiny batches cost more than padding does.
        if n_rows and (
            n_rows + len(answers[owner]) > batch_size or longer * 4 * n_rows > batch_size or apart
        ):
            jobs.append(_job(model, targets, answers, owners))
            owners, n_rows = [], 0
        owners.append(owner)
        n_rows += len(answers[owner])
    if owners:
        jobs.append(_job(model, targets, answers, owners))
    return jobs


def _job(
    model: LanguageModel,
    targets: Sequence[Target],
    answers: Sequence[Sequence[tuple[int, ...]]],
    owners: Sequence[int],
) -> _Job:
    rows = [(owner, answer) for owner in owners for answer in answers[owner]]
    prompt = model.pad([targets[owner].prompt for owner, _ in rows])
    extra = max(max(len(answer) for _, answer in rows) - 1, 0)
    padded = torch.full((len(rows), extra + 1), -1)
    for row, (_, answer) in enumerate(rows):
        padded[row, : len(answer)] = torch.tensor(answer, dtype=torch.long)
    padded = padded.to(prompt.ids.device)
    batch = _append(prompt, padded[:, :extra].clamp(min=0))
    return _Job([owner for owner, _ in rows], batch, prompt.ids.shape[1], extra, padded)


def _append(prompt: TokenBatch, tail: Tensor) -> TokenBatch:
    """Put each answer's tokens behind its prompt; what follows an answer's end is never seen."""
    if not tail.shape[1]:
        return prompt
    steps = torch.arange(1, tail.shape[1] + 1, device=tail.device)
    return TokenBatch(
        torch.cat([prompt.ids, tail], 1),
        torch.cat([prompt.attention_mask, torch.ones_like(tail)], 1),
        torch.cat([prompt.position_ids, prompt.position_ids[:, -1:] + steps], 1),
    )


@dataclass
class _Answer:
    """Raw outcome of one job under one condition."""

    said: dict[int, list[int]]  # by the owner of a prompt
    log_p: list[float]  # by row
    rank: list[int]


@torch.no_grad()
def _ask(
    model: LanguageModel,
    job: _Job,
    targets: Sequence[Target],
    conditions: Mapping[str, Intervention | None],
    routing: str,
    batch_size: int,
) -> dict[str, _Answer]:
    """What the job's prompts are answered under every condition."""
    starts = {name: first_layer([change]) for name, change in conditions.items()}
    if not model.drive.resumes:
        starts = {name: start if start is None else 0 for name, start in starts.items()}
    shared = sorted({start for start in starts.values() if start})
    clean, kept = None, {}
    if shared or None in starts.values() or routing == "frozen":
        with routing_kept(model) if routing == "frozen" else nullcontext({}) as kept:
            clean = model.run(
                job.batch,
                keep_inputs=shared,
                use_cache=model.drive.caches,
                logits_to_keep=job.extra + 1,
            )
    # what the untouched pass routed is kept for one copy of the prompts
    room = 1 if routing == "frozen" else max(1, batch_size // len(job.owners))
    found: dict[str, _Answer] = {}
    for start, names in _beside_each_other(starts, room):
        copies, changes = job.times(len(names)), [conditions[name] for name in names]
        if start is None and clean is not None:
            alike = _finish(model, job, targets, clean, clean.keys_values, [None])
            found |= dict.fromkeys(names, alike[0])
            continue
        start = start or 0
        rows = clean.inputs[start].repeat(len(names), 1, 1) if start and clean else None
        blocks = [(len(job.owners), change) for change in changes]
        with routing_replayed(model, kept), _active(model, blocks, after_prompt=job.extra):
            edited = model.run(
                copies.batch,
                start=start,
                rows=rows,
                use_cache=model.drive.caches,
                logits_to_keep=job.extra + 1,
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


def _active(
    model: LanguageModel, blocks: Sequence[tuple[int, Intervention | None]], **where: Any
) -> AbstractContextManager[None]:
    """The interventions of blocks of rows; nothing where none of them has one."""
    touched = any(change is not None for _, change in blocks)
    return intervene(model, blocks=blocks, **where) if touched else nullcontext()


def _finish(
    model: LanguageModel,
    job: _Job,
    targets: Sequence[Target],
    done: Pass,
    keys_values: KeysValues,
    changes: Sequence[Intervention | None],
) -> list[_Answer]:
    """What each copy of the prompts is answered.

    Args:
        job: As many copies of the prompts as there are changes.
        done: Of all copies.
        keys_values: The same.
        changes: What is done to each copy.
    """
    logits = done.logits[:, -(job.extra + 1) :]
    said, row_of = _read_off(job, logits.argmax(-1))
    n = len(job.owners) // len(changes)
    apart = max(job.owners[:n]) + 1
    asked = {owner: targets[owner % apart] for owner in said}
    by_length: dict[int, list[int]] = {}
    for owner, tokens in said.items():
        if _is_open(model, asked[owner], tokens):
            by_length.setdefault(len(tokens), []).append(owner)
    for owners in by_length.values():
        rows = torch.tensor([row_of[owner] for owner in owners], device=logits.device)
        past = crop(keys_values, rows, job.width)
        change_of = {owner: changes[owner // apart] for owner in owners}
        _go_on(model, job, asked, said, owners, past, rows, change_of)
    said = {owner: _cut(model, asked[owner], tokens) for owner, tokens in said.items()}
    log_p, rank = _score(logits, job)
    found = []
    for copy in range(len(changes)):
        mine = {o % apart: tokens for o, tokens in said.items() if o // apart == copy}
        place = slice(copy * n, (copy + 1) * n)
        found.append(_Answer(mine, log_p[place], rank[place]))
    return found


def _read_off(job: _Job, greedy: Tensor) -> tuple[dict[int, list[int]], dict[int, int]]:
    """By owner: greedy tokens known from the pass over the answers, and the row that knows most.

    Greedy tokens [row, extra + 1] are a continuation up to the first that is not the answer's.
    """
    agree = (greedy[:, : job.extra] == job.answers[:, : job.extra]).long().cumprod(1).sum(1)
    said: dict[int, list[int]] = {}
    row_of: dict[int, int] = {}
    known = zip(job.owners, greedy.tolist(), agree.tolist(), strict=True)
    for row, (owner, tokens, n) in enumerate(known):
        if len(said.get(owner, ())) <= n:
            said[owner], row_of[owner] = tokens[: n + 1], row
    return said, row_of


def _is_open(model: LanguageModel, target: Target, said: Sequence[int]) -> bool:
    """Whether more tokens are needed: to decide, or to be shown up to the end of the line."""
    if target.verdict(said) is None or len(said) < min(target.n_shown, N_PREFIX):
        return True
    return len(said) < target.n_shown and not model.ends_line(said[-1])


def _cut(model: LanguageModel, target: Target, said: list[int]) -> list[int]:
    """The tokens that were needed: how many are known depends on the batch."""
    lengths = range(1, len(said) + 1)
    return said[: next((n for n in lengths if not _is_open(model, target, said[:n])), len(said))]


def _go_on(
    model: LanguageModel,
    job: _Job,
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
        past: Keys and values of their prompts, which have these rows in the job.
        change_of: What is done to each.
    """
    mask = job.batch.attention_mask[rows, : job.width]
    position = job.batch.position_ids[rows, job.width - 1 : job.width]
    new = [said[owner] for owner in owners]
    while owners:
        ids = torch.tensor(new, device=mask.device)
        steps = torch.arange(1, ids.shape[1] + 1, device=mask.device)
        batch = TokenBatch(ids, torch.ones_like(ids), position + steps)
        if model.drive.caches:
            with _active(model, _blocks(owners, change_of), prompt_active=False):
                step = model.run(batch, past=past, past_mask=mask)
        else:
            blocks = _blocks(owners, change_of)
            step = _whole_prompts(model, job, rows, [said[owner] for owner in owners], blocks)
        for owner, token in zip(owners, step.logits[:, -1].argmax(-1).tolist(), strict=True):
            said[owner].append(token)
        open_rows = [row for row, o in enumerate(owners) if _is_open(model, targets[o], said[o])]
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
    job: _Job,
    rows: Tensor,
    said: Sequence[Sequence[int]],
    blocks: Sequence[tuple[int, Intervention | None]],
) -> Pass:
    """Prompts and what was said, all again: where keys and values carry no next token."""
    prompts = TokenBatch(*(t[rows, : job.width] for t in vars(job.batch).values()))
    batch = _append(prompts, torch.tensor(said, device=prompts.ids.device))
    with _active(model, blocks, after_prompt=len(said[0])):
        return model.run(batch)


def _score(logits: Tensor, job: _Job) -> tuple[list[float], list[int]]:
    """Log P of each row's answer and the rank of its first token."""
    given = job.answers >= 0
    tokens = job.answers.clamp(min=0)
    chosen = logits.gather(-1, tokens[..., None])[..., 0]
    log_p = ((chosen - logits.logsumexp(-1)) * given).sum(1)
    rank = (logits[:, 0] > chosen[:, :1]).sum(1) + 1
    asked = given[:, 0]
    return (
        log_p.masked_fill(~asked, float("nan")).tolist(),
        rank.masked_fill(~asked, 0).tolist(),
    )


def _rows(
    model: LanguageModel,
    name: str,
    job: _Job,
    answer: _Answer,
    prompts: Sequence[Prompt],
    targets: Sequence[Target],
) -> Iterator[AnswerRow]:
    """One row per prompt; the probabilities of several right answers add up."""
    rows_of: dict[int, list[int]] = {}
    for row, owner in enumerate(job.owners):
        rows_of.setdefault(owner, []).append(row)
    for owner, mine in rows_of.items():
        ids = tuple(answer.said[owner])
        yield AnswerRow(
            condition=name,
            prompt=prompts[owner].id,
            ids=ids,
            text=model.tokenizer.decode(list(ids), skip_special_tokens=True),
            correct=targets[owner].is_correct(ids),
            log_p=_sum_of([answer.log_p[row] for row in mine]),
            rank=min(answer.rank[row] for row in mine),
        )


def _sum_of(log_ps: Sequence[float]) -> float:
    """Log of the sum of probabilities; one alone (also NaN: not measured) stays as it is."""
    return log_ps[0] if len(log_ps) == 1 else float(np.logaddexp.reduce(log_ps))
