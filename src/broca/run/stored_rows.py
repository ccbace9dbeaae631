"""Stored rows: what each tells of its condition and prompt; as columns, and where each stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.studies.study import Condition


def condition_columns(
    study: str, key: str, condition: Condition, sets: Mapping[str, NeuronSet]
) -> dict[str, Any]:
    """What a row tells of its condition.

    Args:
        study: The study that asked first.
        key: Under which the row is kept.
        condition: The condition.
        sets: Neuron sets by name.
    """
    neurons = sets.get(condition.set)
    return {
        "study": study,
        "condition": key,
        "intervention": condition.intervention,
        "factor": condition.factor,
        "positions": "" if condition.intervention == "none" else str(condition.positions),
        "replacement": condition.replacement,
        "set": condition.set,
        "method": neurons.method if neurons is not None else "",
        "control": condition.control,
        "seed": condition.seed,
        "k": condition.k,
    }


def prompt_columns(prompt: Prompt) -> dict[str, str]:
    """What a row tells of its prompt."""
    return {
        "prompt": prompt.id,
        "query": prompt.fact,
        "relation": prompt.relation,
        "field": prompt.field,
        "language": prompt.language,
        "template": prompt.template,
        "role": prompt.role,
    }


class StoredRows:
    """A table of rows as numpy columns, with the place of every (key, prompt)."""

    def __init__(self, table: pa.Table) -> None:
        self.columns: dict[str, np.ndarray] = {
            name: _numpy(table.column(name)) for name in table.column_names
        }
        pairs = zip(self.columns["condition"], self.columns["prompt"], strict=True)
        self._place = {pair: place for place, pair in enumerate(pairs)}

    def places(self, keys: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
        """Row numbers of pairs of key and prompt."""
        pairs = zip(keys, prompts, strict=True)
        return np.array([self._place[pair] for pair in pairs], dtype=int)


def _numpy(column: Any) -> np.ndarray:
    """A column as numpy; equal texts become one object, so that memory stays small."""
    column = column.combine_chunks()
    if pa.types.is_string(column.type):
        coded = column.dictionary_encode()
        texts = np.array(coded.dictionary.to_pylist(), dtype=object)
        return texts[coded.indices.to_numpy()] if len(coded) else np.empty(0, object)
    if pa.types.is_nested(column.type):
        return np.empty(0)  # generated ids are kept for readers of the files
    return column.to_numpy(zero_copy_only=False)
