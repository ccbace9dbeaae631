"""The settings of learned masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from broca.errors import EffectError
from broca.locators.masks.gates import GATES
from broca.settings import Count, NotNegative, Positive, Seed, check_settings


@dataclass(frozen=True)
class MaskConfig:
    """How masks are learned.

    Attributes:
        gate: ``slimming`` or ``hard-concrete``.
        goal: ``keep`` or ``destroy`` the answers.
        strength: Weight of the share of neurons kept (taken away), against log P in nats.
        budget: Number of neurons to keep (take away) in place of a strength.
        others_weight: Weight of what other prompts' answers lose.
        floor: *destroy* stops pushing an answer once its log P has fallen by so much.
        learning_rate: Of Adam.
        n_steps: Steps at most.
        patience: Steps without improvement before stopping.
        positions: Where masks act: at the ``last`` one, like exact effects, or at ``all``, as
            published.
        warm: Whether to start from gradient * activation (at these positions).
        seed: Of the noise.

    Raises:
        EffectError: If a value has another type or is out of its range.
    """

    gate: str = "hard-concrete"
    goal: Literal["keep", "destroy"] = "keep"
    strength: Positive = 30.0
    budget: Count | None = None
    others_weight: NotNegative = 1.0
    floor: Positive = 5.0
    learning_rate: Positive = 0.1
    n_steps: Count = 120
    patience: Count = 30
    positions: Literal["last", "all"] = "last"
    warm: bool = True
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.gate not in GATES:
            raise EffectError(f"Unknown gate {self.gate!r}", mend=f"Use {' or '.join(GATES)}.")
        check_settings(self, EffectError)
