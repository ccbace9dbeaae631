"""Units of answers: interventions on the same prompts, computed together and stored as rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broca.answers import Match, find_targets
from broca.interventions import Intervention
from broca.measurements import AnswerRow, answer_prompts
from broca.model import LanguageModel
from broca.prompts import Prompt
from broca.run.sharing import Share
from broca.run.stored_rows import condition_columns, prompt_columns
from broca.studies.study import Plan

Writing = Callable[[Any, list[Any]], Iterable[Mapping[str, Any]]]

BEFORE = ("text", "correct", "log_p", "rank")


@dataclass(frozen=True)
class Unit:
    """Interventions on the same prompts, computed and stored together.

    Attributes:
        prompts: The prompts.
        changes: Interventions by name.
        shares: (name of the intervention, id of the prompt) -> whose row it is.
        border: What stands between prompt and answer.
    """

    prompts: Sequence[Prompt]
    changes: Mapping[str, Intervention | None]
    shares: Mapping[tuple[str, str], Share]
    border: str

    @property
    def keys(self) -> set[str]:
        """Keys of all its rows."""
        return {share.key for share in self.shares.values()}

    @property
    def size(self) -> int:
        """Prompts × interventions."""
        return len(self.prompts) * len(self.changes)


@dataclass(frozen=True)
class Asking:
    """Computes a unit: all it needs is the model."""

    model: LanguageModel
    batch_size: int
    match: Match = "auto"

    def __call__(self, unit: Unit) -> list[AnswerRow]:
        return list(
            answer_prompts(
                self.model,
                unit.prompts,
                unit.changes,
                border=unit.border,
                match=self.match,
                batch_size=self.batch_size,
            )
        )


@dataclass
class RowWriter:
    """Makes stored rows of the answers of one unit."""

    model: LanguageModel
    study: str
    plan: Plan
    unit: Unit
    before: Mapping[str, Mapping[str, Any]]
    _prompts: dict[str, Prompt] = field(init=False)
    _n_tokens: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._prompts = {prompt.id: prompt for prompt in self.unit.prompts}
        self._n_tokens = {p: row["n_answer_tokens"] for p, row in self.before.items()}
        missing = [p for p in self.unit.prompts if p.id not in self._n_tokens]
        targets = find_targets(self.model, missing, self.unit.border, "prefix")
        for prompt, target in zip(missing, targets, strict=True):
            self._n_tokens[prompt.id] = min(map(len, target.measured), default=0)

    def row(self, answer: AnswerRow) -> dict[str, Any]:
        """The answer as a row of the condition that asked first."""
        share = self.unit.shares[answer.condition, answer.prompt]
        prompt, condition = self._prompts[answer.prompt], share.condition
        now = {name: getattr(answer, name) for name in BEFORE}
        before = now if condition.intervention == "none" else self.before[prompt.id]
        describe = self.plan.describe
        return {
            **condition_columns(self.study, share.key, condition, self.plan.sets),
            **prompt_columns(prompt),
            **now,
            "ids": list(answer.ids),
            "said": describe(prompt, answer.text, answer.correct) if describe else "",
            "n_answer_tokens": self._n_tokens[prompt.id],
            "p_after": math.exp(answer.log_p),
            **{f"{name}_before": before[name] for name in BEFORE},
            "p_before": math.exp(before["log_p"]),
        }
