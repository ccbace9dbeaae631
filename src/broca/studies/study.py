"""What all studies share: conditions, plans, outcomes, findings, and the bench they work at.

1. A family of studies (relations, queries) prepares its material once: prompts, neuron sets.
2. A study lays out a **plan**: conditions ("these prompts under this intervention").
3. The **bench** measures what no earlier plan has measured and keeps it; the untouched model's
   answers to all prompts come first, since every row carries them beside it.
4. The study turns the outcomes into **findings**: flat figures, tables, sentences.

A study knows no disk and no cluster, and never measures by itself: that is how conditions are
computed once for all studies of a run, and how an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol

import numpy as np

from broca.interventions import Positions
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.responses import Responses
from broca.scores import Labelling, NeuronScores

Kind = Literal["none", "deactivate", "scale", "fix", "replace"]
Describe = Callable[[Prompt, str, bool], str]


@dataclass(frozen=True)
class Condition:
    """One point of a study's grid: one intervention on one group of prompts, as plain values.

    Attributes:
        prompts: Name of the group of prompts. Groups may share prompts: each is asked once under
            the same intervention.
        intervention: What is done.
        set: Name of the neuron set it is done to.
        factor: Factor of "scale", value of "fix".
        positions: Where in the prompt; see `broca.interventions`. "options", the lines of a
            prompt's options, are found when it is asked.
        replacement: Of "replace": what the values are that are put in the neurons' place.
        control: Which control it is ("uniform", "matched", "shuffled", ...), "" for none.
        seed: Seed of a control.
        k: Number of neurons.
    """

    prompts: str
    intervention: Kind = "none"
    set: str = ""
    factor: float | None = None
    positions: Positions = "all"
    replacement: str = ""
    control: str = ""
    seed: int | None = None
    k: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


class Replacement(Protocol):
    """What is put in neurons' place where that is not zero (METHODS §7)."""

    def values(self, neurons: NeuronSet) -> tuple[str, tuple[float, ...]]:
        """What these values are, in a word that differs where they do; and one per neuron."""
        ...


@dataclass
class Plan:
    """The conditions a study needs, with the prompts and neuron sets they name.

    Attributes:
        groups: Prompts by group.
        sets: Neuron sets by name.
        conditions: In the order in which they were asked for, each once.
        describe: Says in a word what was answered, for the rows' column `said`.
        extra: Whatever else the study hands on to its summary.
        replacement: What is put in the place of neurons that are switched off; zero if None.
        values: (set, replacement) -> what is put in the place of its neurons.
    """

    groups: Mapping[str, Sequence[Prompt]]
    describe: Describe | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    replacement: Replacement | None = None
    sets: dict[str, NeuronSet] = field(default_factory=dict)
    values: dict[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    conditions: dict[Condition, None] = field(default_factory=dict)

    def ask(self, groups: Iterable[str]) -> list[Condition]:
        """Ask groups of prompts with the model untouched."""
        return [self._add(Condition(group)) for group in groups]

    def switch_off(
        self, neurons: NeuronSet, groups: Iterable[str], *, name: str = "", **labels: Any
    ) -> list[Condition]:
        """Ask groups of prompts with neurons off at every position: replaced, by 0 by default.

        Args:
            neurons: Which neurons.
            groups: Which groups of prompts.
            name: Name of the set; the set's own by default.
            **labels: `control` and `seed`, where it is a control.
        """
        return self.replace(neurons, groups, self.replacement, name=name, **labels)

    def replace(
        self,
        neurons: NeuronSet,
        groups: Iterable[str],
        replacement: Replacement | None,
        *,
        name: str = "",
        **labels: Any,
    ) -> list[Condition]:
        """Ask groups of prompts with other values in the neurons' place, 0 where None is given."""
        if replacement is None:
            return self.intervene("deactivate", neurons, groups, name=name, **labels)
        word, values = replacement.values(neurons)
        self.values[name or neurons.name, word] = values
        return self.intervene("replace", neurons, groups, name=name, replacement=word, **labels)

    def intervene(
        self,
        kind: Kind,
        neurons: NeuronSet,
        groups: Iterable[str],
        *,
        name: str = "",
        **labels: Any,
    ) -> list[Condition]:
        """Ask groups of prompts under an intervention; see :class:`Condition` for the labels."""
        name = name or neurons.name
        known = self.sets.setdefault(name, neurons)
        if known is not neurons and known.digest != neurons.digest:
            raise ValueError(f"two different neuron sets are called {name!r}")
        return [
            self._add(Condition(group, kind, name, k=len(neurons), **labels)) for group in groups
        ]

    def _add(self, condition: Condition) -> Condition:
        if condition.prompts not in self.groups:
            raise ValueError(f"there is no group of prompts {condition.prompts!r}")
        self.conditions[condition] = None
        return condition


@dataclass(frozen=True)
class Outcomes:
    """What came out of one or more conditions, one entry per row.

    Attributes:
        prompt: Ids of the prompts.
        relation: Their relations.
        fact: Ids of their facts.
        correct: Whether the answer was right.
        log_p: Log P of the right answer.
        text: What was answered.
        said: The same in a word.
        correct_before: Whether the untouched model's answer is right.
        log_p_before: Log P without intervention.
        text_before: What the untouched model answers.
        n_answer_tokens: Tokens of the right answer whose log P was measured.
        p_within: P of the right label among the labels; NaN where there are none.
        p_within_before: The same untouched.
        margin: Logit of the right label over the best wrong one, NaN where there are none.
        margin_before: The same untouched.
    """

    prompt: np.ndarray
    relation: np.ndarray
    fact: np.ndarray
    correct: np.ndarray
    log_p: np.ndarray
    text: np.ndarray
    said: np.ndarray
    correct_before: np.ndarray
    log_p_before: np.ndarray
    text_before: np.ndarray
    n_answer_tokens: np.ndarray
    p_within: np.ndarray
    p_within_before: np.ndarray
    margin: np.ndarray
    margin_before: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def accuracy(self) -> float:
        """Share of right answers, NaN where there is no prompt."""
        return float(self.correct.mean()) if len(self) else float("nan")

    @property
    def accuracy_before(self) -> float:
        """Share of right answers without intervention."""
        return float(self.correct_before.mean()) if len(self) else float("nan")

    @property
    def drop(self) -> float:
        """acc_drop = (before − after) / before, NaN where nothing was right before."""
        return acc_drop(self.accuracy_before, self.accuracy)


def acc_drop(before: float, after: float) -> float:
    """(before − after) / before, NaN where before is 0 (METHODS §2)."""
    return (before - after) / before if before > 0 else float("nan")


LETTER_COLUMNS = ("p_within", "p_within_before", "margin", "margin_before")
"""What rows hold of the letters of choice prompts, and no other rows do."""
_COLUMNS = {"fact": "query"}  # attributes of Outcomes that are called otherwise in rows


class Results:
    """The rows of a plan, by condition.

    Args:
        columns: Columns of stored rows, [row] each.
        places: Rows of each condition, in the order of its prompts.
        extra: What the plan handed on.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        places: Mapping[Condition, np.ndarray],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._columns = columns
        self._places = places
        self.extra = extra or {}

    def __getitem__(self, conditions: Condition | Sequence[Condition]) -> Outcomes:
        """The outcomes of one condition, or of several one after the other."""
        listed = [conditions] if isinstance(conditions, Condition) else conditions
        rows = [self._places[condition] for condition in listed]
        place = np.concatenate(rows) if rows else np.empty(0, int)
        names = [attribute.name for attribute in fields(Outcomes)]
        return Outcomes(**{n: self._columns[_COLUMNS.get(n, n)][place] for n in names})

    def conditions(self, groups: Sequence[str], **labels: Any) -> list[Condition]:
        """Conditions on these groups of prompts whose attributes have the given values."""
        wanted = set(groups)
        return [
            condition
            for condition in self._places
            if condition.prompts in wanted
            and all(getattr(condition, name) == value for name, value in labels.items())
        ]

    def where(self, groups: Sequence[str], **labels: Any) -> Outcomes:
        """The outcomes of `conditions(groups, **labels)`, one after the other."""
        return self[self.conditions(groups, **labels)]


@dataclass(frozen=True)
class Findings:
    """What a study found, all of it plain values: the report shows them and computes nothing.

    Attributes:
        figures: Dotted keys to numbers, for summary.json.
        tables: Named tables, each a list of records.
        words: Sentences computed from the numbers.
    """

    figures: Mapping[str, float | int | None]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    words: Sequence[str] = ()


class KeepingBench(Protocol):
    """Where plain values are computed with the model."""

    @property
    def model(self) -> LanguageModel: ...

    def keep(
        self,
        kind: str,
        function: Callable[[LanguageModel, Any], dict[str, Any]],
        items: Sequence[tuple[Mapping[str, Any], Any]],
        *,
        quick: bool = False,
    ) -> list[dict[str, Any]]:
        """Plain values of each item, computed once and found again.

        Args:
            kind: What they are.
            function: Computes the values of one item, with the model.
            items: All that determines an item's values beside the model, as plain values; and
                what the function is given.
            quick: Whether a dry run computes them as well.
        """
        ...


class Bench(KeepingBench, Protocol):
    """Where a family prepares and its studies are measured.

    Attributes:
        measures: Whether it measures; a dry run's counts, and draws its scores.
    """

    measures: bool

    def record(
        self, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str = "mean"
    ) -> Responses:
        """Responses of neurons to prompts, recorded once and found again."""
        ...

    def score(
        self, responses: Responses, labellings: Mapping[str, Labelling]
    ) -> dict[str, NeuronScores]:
        """Average precision of every neuron, for many labellings of the recorded prompts."""
        ...

    def measure(self, study: str, plan: Plan) -> Results:
        """Outcomes of every condition of a plan; only what is new is computed."""
        ...

    def keep_set(self, neurons: NeuronSet, name: str) -> None:
        """Store a neuron set with the run."""
        ...


class Study(Protocol):
    """One question asked of prepared material.

    Attributes:
        name: As recipes name it, e.g. "relations.intra".
    """

    name: str

    def plan(self, material: Any, bench: Bench) -> Plan:
        """The conditions to be measured; responses may be recorded at the bench."""
        ...

    def summarise(self, material: Any, results: Results) -> Findings:
        """What they show."""
        ...


class Family(Protocol):
    """Studies that share their preparation and their settings.

    Attributes:
        config: The frozen dataclass of the settings, named as in recipes.
        studies: By name, in the order in which a report shows them.
    """

    config: type
    studies: Mapping[str, Study]

    def check(self, config: Any, studies: Sequence[Any], *, embedded: bool) -> None:
        """Refuse what studies need and do not have, as far as it shows without the model."""
        ...

    def prepare(self, config: Any, bench: Bench) -> Any:
        """The material of all its studies."""
        ...

    def introduce(self, material: Any) -> Mapping[str, Findings]:
        """What the preparation itself found, by the name under which a run keeps it."""
        ...
