"""Rows of query studies as they are stored: letters and answers in words alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from broca.choices import ChoiceRow, WordRow
from broca.neurons import NeuronSet
from broca.run.stored_rows import condition_columns, prompt_columns
from broca.studies.study import Condition


def stored_row(
    study: str, row: ChoiceRow | WordRow, condition: Condition, sets: Mapping[str, NeuronSet]
) -> dict[str, Any]:
    """One row of the store.

    Args:
        study: The study that asked first.
        row: What was measured.
        condition: Its condition.
        sets: Neuron sets by name.
    """
    prompt = row.letters.prompt if isinstance(row, ChoiceRow) else row.words.prompt
    return {
        **condition_columns(study, row.edit, condition, sets),
        **prompt_columns(prompt),
        "ids": [row.token],
        "log_p": row.log_p,
        "rank": row.rank,
        "p_after": math.exp(row.log_p),
        "log_p_before": row.log_p_before,
        "rank_before": row.rank_before,
        "p_before": math.exp(row.log_p_before),
        **(_letter(row) if isinstance(row, ChoiceRow) else _words(row)),
    }


def _letter(row: ChoiceRow) -> dict[str, Any]:
    prompt = row.letters.prompt
    return {
        "text": prompt.labels[row.chosen],
        "correct": row.chosen == prompt.answer,
        "said": "letter" if row.token in _flat(row.letters.candidates) else "other",
        "n_answer_tokens": 1,
        "text_before": prompt.labels[row.chosen_before],
        "correct_before": row.chosen_before == prompt.answer,
        "p_within": row.p_within,
        "p_within_before": row.p_within_before,
        "margin": row.margin,
        "margin_before": row.margin_before,
    }


def _words(row: WordRow) -> dict[str, Any]:
    return {
        "text": row.said,
        "correct": row.correct,
        "said": "right" if row.correct else "other",
        "n_answer_tokens": len(row.words.target),
        "text_before": row.said_before,
        "correct_before": row.correct_before,
    }


def _flat(tokens: Iterable[Iterable[int]]) -> set[int]:
    return {token for one in tokens for token in one}
