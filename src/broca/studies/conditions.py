"""What a condition does to the model, and the key under which its rows are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broca.errors import StudyError
from broca.interventions import Deactivate, Fix, Intervention, Scale
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.store import condition_key
from broca.studies.study import Condition


def make_intervention(
    condition: Condition,
    neurons: NeuronSet | None,
    values: tuple[float, ...] | None = None,
) -> Intervention | None:
    """The intervention a condition names, None for the untouched model.

    Args:
        condition: The condition.
        neurons: The neurons it names.
        values: What it puts in their place, one per neuron, where it replaces them.

    Raises:
        StudyError: If the condition names no such intervention.
    """
    if condition.intervention == "none":
        return None
    if neurons is not None:
        if condition.intervention == "deactivate":
            return Deactivate(neurons, condition.positions)
        if condition.intervention == "scale" and condition.factor is not None:
            return Scale(neurons, condition.factor, condition.positions)
        if condition.intervention == "replace" and values is not None:
            return Fix(neurons, values, condition.positions)
        if condition.intervention == "fix" and condition.factor is not None:
            return Fix(neurons, condition.factor, condition.positions)
    raise StudyError("a condition lacks its neurons or its factor", str(condition))


def prompts_digest(prompts: Iterable[Prompt]) -> str:
    """Hash of ids, texts and right answers."""
    return condition_key({"prompts": [[p.id, p.text, list(p.answers)] for p in prompts]})


def key_of(
    condition: Condition, neurons: NeuronSet | None, prompts: str, settings: Mapping[str, Any]
) -> str:
    """The key under which a condition's rows are kept: a hash of all that determines them.

    Args:
        condition: The condition; its labels do not count.
        neurons: The neurons it names.
        prompts: `prompts_digest` of its group.
        settings: What determines rows besides: weights, dtype, measurement.
    """
    replaced = {"replacement": condition.replacement} if condition.replacement else {}
    return condition_key(
        {
            **replaced,
            "intervention": condition.intervention,
            "factor": condition.factor,
            "positions": condition.positions,
            "neurons": None if neurons is None else neurons.digest,
            "prompts": prompts,
            **settings,
        }
    )
