"""Rows of query studies as they are stored: letters and answers in words alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from broca.choices import ChoiceRow, WordRow
from broca.neurons import NeuronSet
from broca.prompts import Prompt
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
    neurons = sets.get(condition.set)
    prompt = row.letters.prompt if isinstance(row, ChoiceRow) else row.words.prompt
    return {
        "study": study,
        "condition": row.edit,
        "intervention": condition.intervention,
        "factor": condition.factor,
        "set": condition.set,
        "method": neurons.method if neurons is not None else "",
        "control": condition.control,
        "seed": condition.seed,
        "k": condition.k,
        **_about(prompt),
        "ids": [row.token],
        "log_p": row.log_p,
        "rank": row.rank,
        "p_after": math.exp(row.log_p),
        "log_p_before": row.log_p_before,
        "rank_before": row.rank_before,
        "p_before": math.exp(row.log_p_before),
        **(_letter(row) if isinstance(row, ChoiceRow) else _words(row)),
    }


def _about(prompt: Prompt) -> dict[str, str]:
    return {
        "prompt": prompt.id,
        "query": prompt.fact,
        "relation": prompt.relation,
        "field": prompt.field,
        "language": prompt.language,
        "template": prompt.template,
        "role": prompt.role,
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
