"""Every mistake a user can make ends in one of these: what was wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BrocaError(Exception):
    """Root of all errors that broca raises on purpose.

    Args:
        what: What was wrong, one sentence without a full stop.
        where: The file, line, option or value at fault, if there is one.
        mend: What to do about it, if that is known.
    """

    def __init__(self, what: str, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        message = f"{what} ({where})" if where else what
        super().__init__(f"{message}. {mend}" if mend else message)


def known_names(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """How to mend a name that is not known: the nearest one that is, and all of them.

    Args:
        name: What was written.
        known: The names that are known, in the order to tell them in.
        cutoff: How alike the nearest must be, from 0 to 1 (`difflib.get_close_matches`).
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return f"{guess}Known: {', '.join(names) or 'none'}"


class FactsError(BrocaError):
    """Facts, relations or their templates cannot be read or used."""


class QuestionsError(BrocaError):
    """Multiple-choice questions cannot be read or used."""


class PromptError(BrocaError):
    """A prompt cannot be rendered or does not fit the model."""


class ModelError(BrocaError):
    """A model cannot be loaded, recognised or driven."""


class NeuronError(BrocaError):
    """A neuron or neuron set is malformed or does not belong to this model."""


class InterventionError(BrocaError):
    """An intervention cannot be applied."""


class EffectError(BrocaError):
    """Effects of neurons cannot be measured."""


class ScoreError(BrocaError):
    """Scores cannot be computed from these responses or attributions."""


class AttributionError(BrocaError):
    """Attributions cannot be computed."""


class RecipeError(BrocaError):
    """A recipe or a setting is malformed."""


class EngineError(BrocaError):
    """Work cannot be computed where it was asked to be."""


class RunError(BrocaError):
    """A run folder cannot be written, read or resumed."""


class PlayError(BrocaError):
    """What a page asks for, or a server is to serve, is malformed or beyond its limits."""


class EditError(BrocaError):
    """An edit of the weights is impossible or refused."""


class EstimateError(BrocaError):
    """An estimate, an interval or a p-value cannot be computed from these numbers."""


class StudyError(BrocaError):
    """A study cannot be made with this model and these data."""
