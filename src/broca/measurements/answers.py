"""Every prompt asked under every condition, a row each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from broca.answers import AnswersAlikeWarning, Match, Target, find_targets, measure_border
from broca.errors import PromptError
from broca.interventions import Intervention
from broca.measurements.batches import PromptBatch, prompt_batches
from broca.measurements.conditions import Answer, ask
from broca.model import LanguageModel
from broca.model.routing import ROUTINGS
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
    batches = prompt_batches(model, targets, with_log_p, batch_size)
    for asked in track(batches, f"Asking under {len(conditions)} conditions"):
        answers = ask(model, asked, targets, conditions, routing, batch_size)
        for name in conditions:
            yield from _rows(model, name, asked, answers[name], prompts, targets)


def _warn_alike(prompts: Sequence[Prompt], targets: Sequence[Target], match: Match) -> None:
    pairs = zip(prompts, targets, strict=True)
    for relation in sorted({prompt.relation for prompt, target in pairs if target.alike}):
        warnings.warn(
            f'match = "{match}" takes some wrong objects of {relation or "the prompts"} for right; '
            "broca.find_alike names them",
            AnswersAlikeWarning,
            stacklevel=3,
        )


def _rows(
    model: LanguageModel,
    name: str,
    asked: PromptBatch,
    answer: Answer,
    prompts: Sequence[Prompt],
    targets: Sequence[Target],
) -> Iterator[AnswerRow]:
    """One row per prompt; the probabilities of several right answers add up."""
    rows_of: dict[int, list[int]] = {}
    for row, owner in enumerate(asked.owners):
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
