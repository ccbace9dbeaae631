"""The bench of a run: measures what no study has measured yet, keeps it, and finds it again.

1. All prompts of a plan are asked untouched, unless an earlier plan has asked them.
2. Conditions no earlier plan has named are computed: interventions on the same groups of prompts
   together, so that batches are full and the layers below the first edited one run once for
   them (METHODS §6).
3. Such a **unit** is stored whole, and skipped when it is found stored. What units there are
   follows from the plans alone, never from what happens to be stored already: a run that was
   interrupted computes the same batches, hence the same rows to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from broca.answers import find_targets, measure_border
from broca.engines import Engine
from broca.interventions import Intervention
from broca.measurements import AnswerRow, answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.responses import Responses, record_responses
from broca.scores import Labelling, NeuronScores, score_expertise_many
from broca.store import RunFolder
from broca.studies.study import Condition, Plan, Results, key_of, make_intervention, prompts_digest

UNIT_ROWS = 2500  # rows computed between two writes to disk
BEFORE = ("text", "correct", "log_p", "rank")


@dataclass(frozen=True)
class Unit:
    """Interventions on the same prompts, computed and stored together.

    Attributes:
        prompts: The prompts, of one or more groups.
        groups: Id of each prompt -> its groups.
        changes: Interventions by a name.
        conditions: (name of the intervention, group) -> condition and its key.
        border: What stands between prompt and answer.
    """

    prompts: Sequence[Prompt]
    groups: Mapping[str, Sequence[str]]
    changes: Mapping[str, Intervention | None]
    conditions: Mapping[tuple[str, str], tuple[Condition, str]]
    border: str

    @property
    def keys(self) -> set[str]:
        """Keys of all its conditions."""
        return {key for _, key in self.conditions.values()}

    @property
    def size(self) -> int:
        """Prompts × interventions."""
        return len(self.prompts) * len(self.changes)


@dataclass(frozen=True)
class Asking:
    """Computes a unit: all it needs is the model."""

    model: LanguageModel
    batch_size: int

    def __call__(self, unit: Unit) -> list[AnswerRow]:
        return list(
            answer_prompts(
                self.model,
                unit.prompts,
                unit.changes,
                border=unit.border,
                batch_size=self.batch_size,
            )
        )


class RunBench:
    """See the module; the protocol is `broca.studies.study.Bench`.

    Args:
        model: The model under study.
        folder: Where rows, sets and responses are kept.
        engine: Where units are computed.
        batch_size: Rows per pass.
    """

    def __init__(
        self, model: LanguageModel, folder: RunFolder, engine: Engine, batch_size: int = 64
    ) -> None:
        self.model = model
        self.folder = folder
        self.engine = engine
        self.batch_size = batch_size
        self.needed: set[tuple[str, str]] = set()
        self.declared: list[dict[str, Any]] = []
        self.asked: dict[str, Prompt] = {}
        self._known: set[str] = set()  # keys any plan of this run has named
        self._untouched: dict[str, str] = {}  # prompt -> key of the condition that asked it
        self._borders: dict[str, str] = {}  # language -> border

    def record(
        self, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str = "mean"
    ) -> Responses:
        """Responses of neurons to prompts, on disk in the run folder."""
        return record_responses(
            self.model,
            prompts,
            sites,
            pooling=pooling,
            folder=self.folder.responses_path,
            batch_size=self.batch_size,
        )

    def score(
        self, responses: Responses, labellings: Mapping[str, Labelling]
    ) -> dict[str, NeuronScores]:
        """Average precision of every neuron, for many labellings of the recorded prompts."""
        return score_expertise_many(responses, labellings)

    def keep_set(self, neurons: NeuronSet, name: str) -> None:
        """Store a set as `sets/<name>.json`."""
        self.folder.save_set(neurons, name)

    def measure(self, study: str, plan: Plan) -> Results:
        """See :meth:`broca.studies.study.Bench.measure`."""
        groups = list(dict.fromkeys(condition.prompts for condition in plan.conditions))
        self._measure_borders(prompt for group in groups for prompt in plan.groups[group])
        self._compute(study, plan, self._untouched_conditions(plan, groups))
        keys = self._keys(plan)
        new = {c: k for c, k in keys.items() if c.intervention != "none" and self._is_new(k)}
        self._compute(study, plan, new)
        self._note(study, plan, keys)
        return self._results(plan, keys)

    # -- what there is to compute ------------------------------------------------------------

    def _measure_borders(self, prompts: Iterable[Prompt]) -> None:
        by_language: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            by_language.setdefault(prompt.language, []).append(prompt)
        for language, listed in by_language.items():
            if language not in self._borders:
                self._borders[language] = measure_border(self.model, listed)

    def _untouched_conditions(self, plan: Plan, groups: Sequence[str]) -> dict[Condition, str]:
        """Groups with a prompt that no plan has asked untouched."""
        new: dict[Condition, str] = {}
        for group in groups:
            prompts = plan.groups[group]
            if any(prompt.id not in self._untouched for prompt in prompts):
                key = self._key(Condition(group), None, prompts)
                self._known.add(key)
                self._untouched.update(dict.fromkeys((p.id for p in prompts), key))
                new[Condition(group)] = key
        return new

    def _is_new(self, key: str) -> bool:
        """Whether no plan has named this key; from now on one has."""
        new = key not in self._known
        self._known.add(key)
        return new

    def _keys(self, plan: Plan) -> dict[Condition, str]:
        digests = {group: prompts_digest(prompts) for group, prompts in plan.groups.items()}
        return {
            condition: self._key(
                condition,
                plan.sets.get(condition.set),
                plan.groups[condition.prompts],
                digests[condition.prompts],
            )
            for condition in plan.conditions
        }

    def _key(
        self,
        condition: Condition,
        neurons: NeuronSet | None,
        prompts: Sequence[Prompt],
        digest: str = "",
    ) -> str:
        settings = {
            "model": self.model.identity.fingerprint,
            "dtype": str(self.model.dtype),
            "borders": sorted({self._borders[prompt.language] for prompt in prompts}),
        }
        return key_of(condition, neurons, digest or prompts_digest(prompts), settings)

    # -- computing ---------------------------------------------------------------------------

    def _compute(self, study: str, plan: Plan, new: Mapping[Condition, str]) -> None:
        finished = self.folder.rows.finished()
        units = [unit for unit in self._units(plan, new) if not unit.keys <= finished]
        before = self._before(units)
        asking = Asking(self.model, self.batch_size)
        sizes = [unit.size for unit in units]
        for unit, answers in self.engine.map(asking, units, f"Measuring {study}", sizes):
            writer = _RowWriter(self.model, study, plan, unit, before)
            rows = [row for answer in answers for row in writer.rows(answer)]
            self.folder.rows.append(rows, unit.keys)

    def _units(self, plan: Plan, new: Mapping[Condition, str]) -> list[Unit]:
        """Interventions on the same groups go together, as many as a unit holds."""
        by_change: dict[str, dict[str, tuple[Condition, str]]] = {}
        for condition, key in new.items():
            change = _name_of(condition, plan.sets.get(condition.set))
            by_change.setdefault(change, {})[condition.prompts] = (condition, key)
        alike: dict[tuple[str, ...], list[str]] = {}
        for change, conditions in by_change.items():
            for groups in self._portions(plan, list(conditions)):
                alike.setdefault(groups, []).append(change)
        units = []
        for groups, changes in alike.items():
            n_prompts = sum(len(plan.groups[group]) for group in groups)
            step = max(1, UNIT_ROWS // max(1, n_prompts))
            for start in range(0, len(changes), step):
                units.append(self._unit(plan, groups, changes[start : start + step], by_change))
        return units

    def _portions(self, plan: Plan, groups: Sequence[str]) -> list[tuple[str, ...]]:
        """Groups in portions of one border, none much larger than a unit."""
        portions: list[list[str]] = []
        state, n_prompts = "", 0
        for group in sorted(groups, key=self._border_key(plan)):
            size, border = len(plan.groups[group]), self._border_key(plan)(group)
            if not portions or border != state or n_prompts + size > UNIT_ROWS:
                portions.append([])
                state, n_prompts = border, 0
            portions[-1].append(group)
            n_prompts += size
        return [tuple(portion) for portion in portions]

    def _border_key(self, plan: Plan) -> Callable[[str], str]:
        return lambda group: self._borders[plan.groups[group][0].language]

    def _unit(
        self,
        plan: Plan,
        groups: Sequence[str],
        changes: Sequence[str],
        by_change: Mapping[str, Mapping[str, tuple[Condition, str]]],
    ) -> Unit:
        prompts: dict[str, Prompt] = {}
        member: dict[str, list[str]] = {}
        for group in groups:
            for prompt in plan.groups[group]:
                prompts[prompt.id] = prompt
                member.setdefault(prompt.id, []).append(group)
        conditions = {(c, g): by_change[c][g] for c in changes for g in groups}
        interventions = {}
        for change in changes:
            condition, _ = by_change[change][groups[0]]
            interventions[change] = make_intervention(condition, plan.sets.get(condition.set))
        border = self._border_key(plan)(groups[0])
        return Unit(list(prompts.values()), member, interventions, conditions, border)

    def _before(self, units: Sequence[Unit]) -> dict[str, dict[str, Any]]:
        """Untouched answers to the prompts of some units, those still to be asked left out."""
        keys = {self._untouched[prompt.id] for unit in units for prompt in unit.prompts}
        columns = ["prompt", *BEFORE, "n_answer_tokens"]
        table = self.folder.rows.read(conditions=keys, columns=columns)
        return {row["prompt"]: row for row in table.to_pylist()}

    # -- giving back -------------------------------------------------------------------------

    def _note(self, study: str, plan: Plan, keys: Mapping[Condition, str]) -> None:
        for condition, key in keys.items():
            self.declared.append({"study": study, "key": key, **condition.as_dict()})
            self.asked |= {prompt.id: prompt for prompt in plan.groups[condition.prompts]}
            change = _name_of(condition, plan.sets.get(condition.set))
            apart = "" if condition.intervention == "none" else change
            self.needed |= {(apart, prompt.id) for prompt in plan.groups[condition.prompts]}

    def _results(self, plan: Plan, keys: Mapping[Condition, str]) -> Results:
        wanted = set(keys.values()) | {
            self._untouched[prompt.id]
            for condition in keys
            for prompt in plan.groups[condition.prompts]
        }
        table = StoredRows(self.folder.rows.read(conditions=wanted))
        places = {}
        for condition, key in keys.items():
            prompts = [prompt.id for prompt in plan.groups[condition.prompts]]
            if condition.intervention == "none":
                places[condition] = table.places([self._untouched[p] for p in prompts], prompts)
            else:
                places[condition] = table.places([key] * len(prompts), prompts)
        return Results(table.columns, places, plan.extra)


def _name_of(condition: Condition, neurons: NeuronSet | None) -> str:
    """A name for an intervention, equal for equal neurons."""
    what = "" if neurons is None else neurons.digest
    return f"{condition.intervention} {what} {condition.factor} {condition.positions}"


class StoredRows:
    """A table of rows as numpy columns, with the place of every (condition, prompt)."""

    def __init__(self, table: pa.Table) -> None:
        self.columns: dict[str, np.ndarray] = {
            name: _numpy(table.column(name)) for name in table.column_names
        }
        pairs = zip(self.columns["condition"], self.columns["prompt"], strict=True)
        self._place = {pair: place for place, pair in enumerate(pairs)}

    def places(self, conditions: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
        """Row numbers of pairs of condition and prompt."""
        pairs = zip(conditions, prompts, strict=True)
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


@dataclass
class _RowWriter:
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
        targets = find_targets(self.model, missing, self.unit.border)
        for prompt, target in zip(missing, targets, strict=True):
            self._n_tokens[prompt.id] = min(map(len, target.measured), default=0)

    def rows(self, answer: AnswerRow) -> Iterator[dict[str, Any]]:
        """The answer as a row of every condition it belongs to."""
        for group in self.unit.groups[answer.prompt]:
            yield self._row(answer, *self.unit.conditions[answer.condition, group])

    def _row(self, answer: AnswerRow, condition: Condition, key: str) -> dict[str, Any]:
        prompt = self._prompts[answer.prompt]
        neurons = self.plan.sets.get(condition.set)
        now = {name: getattr(answer, name) for name in BEFORE}
        before = now if condition.intervention == "none" else self.before[prompt.id]
        describe = self.plan.describe
        return {
            "study": self.study,
            "condition": key,
            "intervention": condition.intervention,
            "factor": condition.factor,
            "set": condition.set,
            "method": neurons.method if neurons is not None else "",
            "control": condition.control,
            "seed": condition.seed,
            "k": condition.k,
            "prompt": prompt.id,
            "query": prompt.fact,
            "relation": prompt.relation,
            "field": prompt.field,
            "language": prompt.language,
            "template": prompt.template,
            "role": prompt.role,
            **now,
            "ids": list(answer.ids),
            "said": describe(prompt, self._words(answer), answer.correct) if describe else "",
            "n_answer_tokens": self._n_tokens[prompt.id],
            "p_after": math.exp(answer.log_p),
            **{f"{name}_before": before[name] for name in BEFORE},
            "p_before": math.exp(before["log_p"]),
        }

    def _words(self, answer: AnswerRow) -> str:
        """What was said, without tokens such as the end of the text."""
        return self.model.tokenizer.decode(list(answer.ids), skip_special_tokens=True)
