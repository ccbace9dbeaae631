"""P of the right letter with neurons scaled or fixed, beside the untouched P.

1. A prompt runs once; where only the last position is edited, its prefix is never touched.
2. Copies of the last token run beside each other, one untouched and one per edit: clean and
   edited rows share every batch.
3. P = softmax over the whole vocabulary at the last position, float32. Beside it P within the
   labels (softmax over each label's most probable token) and the margin (logit of the right
   label's over the best wrong one's).

Edits at other positions, and models that cannot be driven this way (measured once), run whole
prompts as rows of a batch, one intervention each.

Source: arXiv 2406.10868, section 5 (boost and suppress); METHODS §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.choices.edits import Change, changed_neurons
from broca.choices.letters import Letters
from broca.errors import ModelError
from broca.interventions import Intervention, Scale, intervene
from broca.model import LanguageModel
from broca.model.branches import BasePass, base_pass, run_last_tokens
from broca.model.measured import measured_once, random_tokens
from broca.neurons import NeuronIndex, uniform_random

WHOLE_PROMPTS = 32  # rows per pass where whole prompts have to run
_CHECK_TOKENS = 12

Edit = tuple[str, Intervention | None]


@dataclass(frozen=True)
class ChoiceTask:
    """One prompt and what is done to it.

    Attributes:
        letters: The prompt with its letter tokens.
        edits: Names of edits with their interventions; None for none.
    """

    letters: Letters
    edits: Sequence[Edit]


@dataclass(frozen=True)
class ChoiceRow:
    """One prompt under one edit, beside the same prompt untouched in the same batch.

    Attributes:
        edit: Name of the edit.
        letters: The prompt.
        log_p: Natural log of P of the right letter.
        log_p_before: The same untouched.
        rank: Rank of the right letter's token in the vocabulary, from 1.
        rank_before: The same untouched.
        chosen: Position of the label the model prefers.
        chosen_before: The same untouched.
        token: The most probable token.
        p_within: P of the right label among the labels.
        p_within_before: The same untouched.
        margin: Logit of the right label over the best wrong one.
        margin_before: The same untouched.
    """

    edit: str
    letters: Letters
    log_p: float
    log_p_before: float
    rank: int
    rank_before: int
    chosen: int
    chosen_before: int
    token: int
    p_within: float
    p_within_before: float
    margin: float
    margin_before: float


def measure_choices(
    model: LanguageModel,
    tasks: Iterable[ChoiceTask],
    *,
    batch_size: int = 256,
    side_by_side: bool | None = None,
) -> Iterator[ChoiceRow]:
    """Ask every prompt untouched and under each of its edits.

    Args:
        model: The model under study.
        tasks: Prompts with their edits.
        batch_size: Rows per pass, one of them untouched.
        side_by_side: Whether copies of the last token run beside each other (step 2); measured
            if None.

    Raises:
        NeuronError: A set belongs to a model of another shape.
        ModelError: A probability is not finite.
    """
    if side_by_side is None:
        side_by_side = check_last_tokens(model)
    for task in tasks:
        check_edits(model, task.edits)
        for listed, beside in by_place(task.edits, "last", side_by_side):
            base = _base(model, task.letters.tokens) if beside else None
            step = max(1, (batch_size if beside else min(batch_size, WHOLE_PROMPTS)) - 1)
            for start in range(0, len(listed), step):
                edits = listed[start : start + step]
                changes = [None, *(edit for _, edit in edits)]
                if base is None:
                    logits = _whole_prompts(model, task.letters.tokens, changes)
                else:
                    logits = _last_tokens(model, base, changes)
                yield from _rows(task.letters, edits, logits)


def by_place(
    edits: Sequence[Edit], place: str, beside: bool
) -> Iterator[tuple[Sequence[Edit], bool]]:
    """Edits that copies of what stands at a place can take beside each other, and the others.

    Args:
        edits: Named edits.
        place: Name of the positions at which copies stand.
        beside: Whether the model can be driven this way at all.

    Yields:
        Edits, none empty, with whether they run beside each other.
    """
    apart: dict[bool, list[Edit]] = {True: [], False: []}
    for name, edit in edits:
        apart[beside and (edit is None or edit.positions == place)].append((name, edit))
    for near, listed in apart.items():
        if listed:
            yield listed, near


def check_edits(model: LanguageModel, edits: Sequence[Edit]) -> None:
    """Refuse sets of a model of another shape.

    Raises:
        NeuronError: A set is.
    """
    for _, edit in edits:
        if edit is not None:
            edit.neurons.check(model.identity)


@measured_once
def check_last_tokens(model: LanguageModel) -> bool:
    """Whether copies of the last token beside each other equal whole prompts, measured once.

    Log P of both ways is compared, on random tokens with random neurons scaled.
    """
    (tokens,) = random_tokens(model, (_CHECK_TOKENS,))
    index = NeuronIndex(model.identity, ("hidden",))
    neurons = uniform_random(index, min(len(index), 16 * model.n_layers), 0, name="check")
    scales = [None, Scale(neurons, 0.0, "last"), Scale(neurons, 2.0, "last")]
    whole = _whole_prompts(model, tokens, scales).log_softmax(-1)
    try:
        beside = _last_tokens(model, _base(model, tokens), scales).log_softmax(-1)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a family raises, this way is not for it
        return False
    tolerance = 2e-3 if model.dtype == torch.float32 else 0.2
    likely = whole.argmax(-1, keepdim=True)
    return bool((beside.gather(-1, likely) - whole.gather(-1, likely)).abs().max() <= tolerance)


def _base(model: LanguageModel, tokens: Sequence[int]) -> BasePass:
    return base_pass(model, model.pad([tokens]))


@torch.no_grad()
def _whole_prompts(
    model: LanguageModel, tokens: Sequence[int], edits: Sequence[Intervention | None]
) -> Tensor:
    """Logits [row, vocab], one whole prompt per row."""
    with intervene(model, rows=edits):
        return model.logits(model.pad([tokens] * len(edits)))[:, -1]


def _last_tokens(
    model: LanguageModel, base: BasePass, edits: Sequence[Intervention | None]
) -> Tensor:
    """Logits [row, vocab], one copy of the last token per row."""
    with ExitStack() as stack:
        for (site, layer), change in changed_neurons(edits, model.device).items():
            stack.enter_context(model.touch(site, layer, _on_copies(change)))
        return run_last_tokens(model, base, len(edits))[0]


def _on_copies(change: Change) -> Change:
    """Copies of one prompt's last token, [1, copy, neuron], as rows of one token each."""
    return lambda values: change(values[0][:, None])[:, 0][None]


def _rows(letters: Letters, edits: Sequence[Edit], logits: Tensor) -> Iterator[ChoiceRow]:
    target = logits[:, letters.target]
    log_p = (target - logits.logsumexp(-1)).tolist()
    if not np.isfinite(log_p).all():
        raise ModelError(
            "Probabilities are not finite",
            f"prompt {letters.prompt.id}",
            "The model overflows on this prompt; load it in float32 or bfloat16.",
        )
    rank = ((logits > target[:, None]).sum(-1) + 1).tolist()
    labels = letters.best_logits(logits)
    chosen, token = labels.argmax(-1).tolist(), logits.argmax(-1).tolist()
    right = letters.prompt.answer
    within = labels.double().softmax(-1)[:, right].tolist()
    wrong = [label for label in range(labels.shape[1]) if label != right]
    margin = (labels[:, right] - labels[:, wrong].amax(-1)).tolist()
    for row, (name, _) in enumerate(edits, start=1):
        yield ChoiceRow(
            edit=name,
            letters=letters,
            log_p=log_p[row],
            log_p_before=log_p[0],
            rank=rank[row],
            rank_before=rank[0],
            chosen=chosen[row],
            chosen_before=chosen[0],
            token=token[row],
            p_within=within[row],
            p_within_before=within[0],
            margin=margin[row],
            margin_before=margin[0],
        )
