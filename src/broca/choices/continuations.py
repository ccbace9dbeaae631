"""Answers behind a prompt, many rows beside each other: the prompt but its last token runs once.

Each row is the prompt's last token and an answer's tokens but the last, on the same keys and
values; neurons are changed at all of these positions, which are those that an answer token is read
from. Whether a model can be driven this way is measured once; else whole prompts run as rows.

Source: the probability of a whole answer under edits is ours (METHODS §3, §9).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.choices.edits import changed_neurons
from broca.interventions import Intervention, Scale, intervene
from broca.model import LanguageModel, TokenBatch
from broca.model.measured import measured_once, random_tokens
from broca.model.resume import KeysValues
from broca.neurons import NeuronIndex, uniform_random

WHOLE_PROMPTS = 32  # rows per pass where whole prompts have to run
_CHECK_TOKENS = 12

Answer = tuple[int, ...]


@dataclass(frozen=True)
class Prefix:
    """A prompt ready to be gone on with.

    Attributes:
        tokens: Its token ids.
        past: Keys and values of all of them but the last, per layer; None where whole prompts run.
    """

    tokens: tuple[int, ...]
    past: KeysValues | None


@torch.no_grad()
def run_prefix(model: LanguageModel, tokens: Sequence[int], beside: bool | None = None) -> Prefix:
    """Run a prompt but its last token.

    Args:
        model: The model.
        tokens: The prompt's token ids.
        beside: Whether rows go on from keys and values; measured if None.
    """
    if beside is None:
        beside = check_continuations(model)
    if not beside or len(tokens) < 2:
        return Prefix(tuple(tokens), None)
    done = model.run(model.pad([tokens[:-1]]), use_cache=True)
    return Prefix(tuple(tokens), done.keys_values)


@torch.no_grad()
def continue_prompt(
    model: LanguageModel,
    prefix: Prefix,
    answers: Sequence[Answer],
    edits: Sequence[Intervention | None],
) -> Tensor:
    """Logits at the positions that each answer's tokens are read from, one row per answer.

    Args:
        model: The model.
        prefix: The prompt.
        answers: One per row; shorter ones are filled up with what is never read.
        edits: What is done in each row; on a prefix's keys and values at all of these positions,
            where whole prompts run at their own.

    Returns:
        float32 [row, position, vocab].
    """
    width = max(map(len, answers))
    tails = [[*answer[:-1], *[answer[-1]] * (width - len(answer))] for answer in answers]
    if prefix.past is None:
        batch = model.pad([[*prefix.tokens, *tail] for tail in tails])
        with intervene(model, rows=edits, after_prompt=width - 1):
            return model.run(batch, logits_to_keep=width).logits
    ids = torch.tensor([[prefix.tokens[-1], *tail] for tail in tails], device=model.device)
    steps = torch.arange(width, device=model.device) + len(prefix.tokens) - 1
    batch = TokenBatch(ids, torch.ones_like(ids), steps.expand_as(ids))
    rows = len(ids)
    past: KeysValues = [
        pair and (pair[0].expand(rows, -1, -1, -1), pair[1].expand(rows, -1, -1, -1))
        for pair in prefix.past
    ]
    seen = torch.ones(rows, len(prefix.tokens) - 1, dtype=torch.long, device=model.device)
    with ExitStack() as stack:
        for (site, layer), change in changed_neurons(edits, model.device).items():
            stack.enter_context(model.touch(site, layer, change))
        return model.run(batch, past=past, past_mask=seen, logits_to_keep=width).logits


@measured_once
def check_continuations(model: LanguageModel) -> bool:
    """Whether going on from keys and values equals whole prompts, measured once.

    Log P of both ways is compared, on random tokens with random neurons scaled.
    """
    (tokens,) = random_tokens(model, (_CHECK_TOKENS + 3,))
    prompt, answer = tokens[:-3], tuple(tokens[-3:])
    index = NeuronIndex(model.identity, ("hidden",))
    neurons = uniform_random(index, min(len(index), 16 * model.n_layers), 0, name="check")
    scales = [None, Scale(neurons, 0.0, "answer"), Scale(neurons, 2.0, "answer")]
    answers = [answer] * len(scales)
    whole = continue_prompt(model, Prefix(tuple(prompt), None), answers, scales).log_softmax(-1)
    try:
        prefix = run_prefix(model, prompt, beside=True)
        beside = continue_prompt(model, prefix, answers, scales).log_softmax(-1)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a family raises, this way is not for it
        return False
    tolerance = 2e-3 if model.dtype == torch.float32 else 0.2
    likely = whole.argmax(-1, keepdim=True)
    apart = (beside.gather(-1, likely) - whole.gather(-1, likely)).abs().max()
    return bool(np.isfinite(float(apart)) and apart <= tolerance)
