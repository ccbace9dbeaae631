"""How a fact is replaced."""

from __future__ import annotations

from dataclasses import dataclass

from broca.errors import EditError
from broca.prompts.forms import check_form
from broca.settings import (
    Count,
    CountFrom0,
    NotNegative,
    Positive,
    Seed,
    Share,
    check_settings,
)


@dataclass(frozen=True)
class FactEditConfig:
    """How a fact is replaced.

    Attributes:
        n_neurons: Value vectors that may change.
        max_change: Length of one vector's change / its own length, at most.
        max_total: The same for all of them as one long vector.
        n_steps: Gradient steps, at most.
        step_size: Root mean square over the value vectors of how far one step moves them / their
            own lengths.
        target: Probability of the new object in every paraphrase at which the steps end.
        locality: Weight of the term that keeps other answers; 0 leaves it out.
        n_others: Prompts of that term: other subjects, half of them of the same relation.
        n_nodes: Nodes of the attribution (Gauss-Legendre).
        template_set: Wordings that are the fact's own paraphrases.
        form: Form of asking; by default every wording is a paraphrase as a question and as it
            stands.
        shots: Demonstrations of the few-shot forms.
        seed: Draws the other prompts, and demonstrations.
    """

    n_neurons: Count = 16
    max_change: Positive = 1.0
    max_total: Positive = 0.7
    n_steps: Count = 25
    step_size: Positive = 0.1
    target: Share = 0.8
    locality: NotNegative = 4.0
    n_others: CountFrom0 = 8
    n_nodes: Count = 6
    template_set: str = "finding"
    form: str | None = None
    shots: Count = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self, EditError)
        if self.form is not None:
            check_form(self.form)
