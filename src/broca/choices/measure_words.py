"""P of a whole answer with neurons scaled or fixed, beside the untouched P.

1. The prompt but its last token runs once; rows of its last token and the answer's tokens go on
   from there, one untouched and one per edit in every batch (`broca.choices.continuations`).
2. P(answer) is the product of its tokens' probabilities, float32 over the whole vocabulary.
3. Right or wrong: greedy decoding says all tokens of a right answer. Where it leaves the measured
   answer, other right answers that begin with what it said are looked at as well.

Edits elsewhere than wherever the answer's tokens are read run whole prompts.

Source: METHODS §3 and §9; ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from broca.choices.continuations import WHOLE_PROMPTS, Prefix, continue_prompt, run_prefix
from broca.choices.measure import Edit, by_place, check_edits
from broca.choices.words import Words, says, spoken, token_log_p
from broca.errors import ModelError
from broca.interventions import Intervention
from broca.model import LanguageModel

ROWS = 64  # at once; every row holds keys and values of the whole prompt


@dataclass(frozen=True)
class WordTask:
    """One prompt and what is done to it.

    Attributes:
        words: The prompt with its answer.
        edits: Names of edits with their interventions; None for none.
    """

    words: Words
    edits: Sequence[Edit]


@dataclass(frozen=True)
class WordRow:
    """One prompt under one edit, beside the same prompt untouched in the same batch.

    Attributes:
        edit: Name of the edit.
        words: The prompt.
        log_p: Natural log of P of the answer.
        log_p_before: The same untouched.
        rank: Rank of the answer's first token in the vocabulary, from 1.
        rank_before: The same untouched.
        correct: Whether greedy decoding says a right answer.
        correct_before: The same untouched.
        said: What it says, up to where it leaves the answer.
        said_before: The same untouched.
        token: The most probable first token.
    """

    edit: str
    words: Words
    log_p: float
    log_p_before: float
    rank: int
    rank_before: int
    correct: bool
    correct_before: bool
    said: str
    said_before: str
    token: int


def measure_words(
    model: LanguageModel,
    tasks: Iterable[WordTask],
    *,
    batch_size: int = ROWS,
    beside: bool | None = None,
) -> Iterator[WordRow]:
    """Ask every prompt untouched and under each of its edits.

    Args:
        model: The model under study.
        tasks: Prompts with their edits.
        batch_size: Rows per pass, one of them untouched; at most `ROWS` are taken.
        beside: Whether rows go on from the prompt's keys and values; measured if None.

    Raises:
        NeuronError: A set belongs to a model of another shape.
        ModelError: A probability is not finite.
    """
    for task in tasks:
        check_edits(model, task.edits)
        tokens = task.words.tokens
        prefix = run_prefix(model, tokens, beside)
        for listed, near in by_place(task.edits, "answer", prefix.past is not None):
            step = max(1, min(batch_size, ROWS if near else WHOLE_PROMPTS) - 1)
            place = prefix if near else Prefix(tokens, None)
            for start in range(0, len(listed), step):
                yield from _rows(model, task.words, place, listed[start : start + step])


def _rows(
    model: LanguageModel, words: Words, prefix: Prefix, edits: Sequence[Edit]
) -> Iterator[WordRow]:
    changes = [None, *(edit for _, edit in edits)]
    answers = [words.target] * len(changes)
    logits = continue_prompt(model, prefix, answers, changes)
    log_p = [float(one.sum()) for one in token_log_p(logits, answers)]
    if not np.isfinite(log_p).all():
        raise ModelError(
            "Probabilities are not finite",
            f"prompt {words.prompt.id}",
            "The model overflows on this prompt; load it in float32 or bfloat16.",
        )
    first = logits[:, 0]
    rank = ((first > first[:, words.target[0], None]).sum(-1) + 1).tolist()
    greedy = logits.argmax(-1).tolist()
    right = _right(model, words, prefix, changes, greedy)
    said = [spoken(model, row, words.target) for row in greedy]
    for row, (name, _) in enumerate(edits, start=1):
        yield WordRow(
            edit=name,
            words=words,
            log_p=log_p[row],
            log_p_before=log_p[0],
            rank=rank[row],
            rank_before=rank[0],
            correct=right[row],
            correct_before=right[0],
            said=said[row],
            said_before=said[0],
            token=greedy[row][0],
        )


def _right(
    model: LanguageModel,
    words: Words,
    prefix: Prefix,
    changes: Sequence[Intervention | None],
    greedy: Sequence[Sequence[int]],
) -> list[bool]:
    """Which rows say a right answer (step 3)."""
    right = [says(row, words.target) for row in greedy]
    for other in words.rights:
        open_rows = [
            row
            for row, said in enumerate(greedy)
            if not right[row] and other != words.target and said[0] == other[0]
        ]
        if open_rows:
            chosen = [changes[row] for row in open_rows]
            logits = continue_prompt(model, prefix, [other] * len(chosen), chosen)
            for row, said in zip(open_rows, logits.argmax(-1).tolist(), strict=True):
                right[row] = says(said, other)
    return right
