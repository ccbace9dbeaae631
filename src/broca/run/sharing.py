"""Who asks a prompt: once under each intervention, however many conditions need the row.

1. An intervention is named by what it does to which neurons. Sets of other queries, methods or
   relations that hold the same neurons are the same intervention.
2. Conditions come in the order of the plans. Each asks those of its prompts that no earlier one
   has asked under the same intervention, its **share**; the rows of the others are found with the
   conditions that asked them.

Rows are found by the ids of prompts: an id that comes again must ask the same.

So shares follow from the plans alone, never from what happens to be stored: an interrupted run
computes the same batches as an unbroken one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from broca.errors import StudyError
from broca.prompts import ChoicePrompt, Prompt
from broca.studies.study import Condition, Plan

KeyOf = Callable[[Condition, Sequence[Prompt]], str]


@dataclass(frozen=True)
class Share:
    """The prompts that one condition is the first to ask under its intervention.

    Attributes:
        condition: The condition.
        change: Name of its intervention.
        prompts: Those of its prompts that are asked for it, at least one.
        key: Hash of all that determines their rows; the rows' `condition`.
    """

    condition: Condition
    change: str
    prompts: tuple[Prompt, ...]
    key: str


@dataclass(frozen=True)
class SamePrompts:
    """What is asked under each id, so that no prompt is given another one's rows."""

    _asked: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Remember what prompts ask; field and role may differ from study to study.

        Raises:
            StudyError: An id asks something else than before.
        """
        for prompt in prompts:
            asks = _asks(prompt)
            if self._asked.setdefault(prompt.id, asks) != asks:
                raise StudyError(
                    "two different prompts have the same id",
                    f"prompt {prompt.id}",
                    "Give every fact and question an id of its own",
                )


def _asks(prompt: Prompt) -> tuple[object, ...]:
    """All that determines a prompt's rows."""
    about = (prompt.text, prompt.answers, prompt.language)
    return (*about, prompt.labels, prompt.answer) if isinstance(prompt, ChoicePrompt) else about


class Sharing:
    """Which rows there are, or will be, and under which key each is kept."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], str] = {}
        self._same = SamePrompts()

    def claim(self, plan: Plan, conditions: Iterable[Condition], key_of: KeyOf) -> list[Share]:
        """The shares of conditions of a plan; those that add nothing have none.

        Args:
            plan: Names groups of prompts and neuron sets.
            conditions: In order.
            key_of: Gives the key of the rows of some prompts under a condition.

        Raises:
            StudyError: An id asks something else than before.
        """
        shares = []
        listed = list(conditions)
        for group in dict.fromkeys(condition.prompts for condition in listed):
            self._same.check(plan.groups[group])
        for condition in listed:
            change = change_of(condition, plan)
            asked = {prompt.id: prompt for prompt in plan.groups[condition.prompts]}
            new = tuple(p for name, p in asked.items() if (change, name) not in self._keys)
            if new:
                share = Share(condition, change, new, key_of(condition, new))
                self._keys |= {(change, prompt.id): share.key for prompt in new}
                shares.append(share)
        return shares

    def keys(self, change: str, prompts: Iterable[Prompt]) -> list[str]:
        """The keys under which prompts are kept that have been claimed, in the order given."""
        return [self._keys[change, prompt.id] for prompt in prompts]


def change_of(condition: Condition, plan: Plan) -> str:
    """A name for a condition's intervention, equal for equal neurons whatever their set."""
    if condition.intervention == "none":
        return UNTOUCHED
    neurons = plan.sets.get(condition.set)
    what = "" if neurons is None else neurons.digest
    how = f"{condition.factor} {condition.positions} {condition.replacement}".rstrip()
    return f"{condition.intervention} {what} {how}"


UNTOUCHED = "none"
