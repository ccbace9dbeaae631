"""The bench of a run: measures what no study has measured yet, keeps it, and finds it again.

1. All prompts of a plan are asked untouched, unless an earlier plan has asked them.
2. Every condition asks the prompts that no earlier one has asked under the same intervention
   (`broca.run.sharing`). Interventions on the same prompts are computed together, so that batches
   are full and the layers below the first edited one run once for them (METHODS §6).
3. Such a **unit** is stored whole, and skipped when it is found stored. What units there are
   follows from the plans alone, never from what happens to be stored already: a run that was
   interrupted computes the same batches, hence the same rows to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from broca.answers import Match, measure_border
from broca.engines import Engine
from broca.errors import StudyError
from broca.model import LanguageModel
from broca.neurons import NeuronSet, digest_of
from broca.prompts import Prompt
from broca.responses import Responses
from broca.run.keeping import Item, Judging, keep
from broca.run.recording import record
from broca.run.scoring import average, score
from broca.run.sharing import UNTOUCHED, Share, Sharing, change_of
from broca.run.stored_rows import StoredRows
from broca.run.units import BEFORE, Asking, RowWriter, Unit, Writing
from broca.scores import Labelling, NeuronScores
from broca.store import RunFolder, condition_key
from broca.studies.conditions import key_of, make_intervention, prompts_digest
from broca.studies.study import Condition, Plan, Results

UNIT_ROWS = 2500  # rows computed between two writes to disk
BORDER_ROWS = 32  # prompts of a pass that measures a border


@lru_cache(maxsize=4096)
def _digest_of_objects(objects: tuple[str, ...]) -> str:
    return digest_of(objects)


class RunBench:
    """See the module; the protocol is `broca.studies.study.Bench`.

    Args:
        model: The model under study.
        folder: Where rows, sets and responses are kept.
        engine: Where units are computed.
        batch_size: Rows per pass.
        match: How many tokens of an answer are compared; see `broca.answer_prompts`.
    """

    measures = True

    def __init__(
        self,
        model: LanguageModel,
        folder: RunFolder,
        engine: Engine,
        batch_size: int = 64,
        match: Match = "auto",
    ) -> None:
        self.model = model
        self.folder = folder
        self.engine = engine
        self.batch_size = batch_size
        self.match: Match = match
        self.needed: set[tuple[str, str]] = set()
        self.declared: list[dict[str, Any]] = []
        self.groups: dict[str, dict[str, list[str]]] = {}  # study -> group -> ids of its prompts
        self.asked: dict[str, Prompt] = {}
        self._sharing = Sharing()
        self._borders: dict[tuple[str, str], str] = {}  # language and form -> border

    def record(
        self, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str = "mean"
    ) -> Responses:
        """Responses of neurons to prompts, on disk in the run folder."""
        at_once = self._recorded_at_once
        found = record(self.folder, self.engine, self.model, prompts, sites, pooling, at_once)
        return replace(found, averaged=partial(average, self.folder, self.engine))

    @property
    def _recorded_at_once(self) -> int:
        """Prompts recorded in one pass."""
        return self.batch_size

    def score(
        self, responses: Responses, labellings: Mapping[str, Labelling]
    ) -> dict[str, NeuronScores]:
        """Average precision of every neuron, for many labellings of the recorded prompts."""
        return score(self.folder, self.engine, responses, labellings)

    def keep_set(self, neurons: NeuronSet, name: str) -> None:
        """Store a set as `sets/<name>.json`."""
        self.folder.save_set(neurons, name)

    def keep(
        self, kind: str, function: Judging, items: Sequence[Item], *, quick: bool = False
    ) -> list[dict[str, Any]]:
        """Plain values of each item, computed once and found again: see `broca.run.keeping`.

        Args:
            kind: What they are, the folder's name.
            function: Computes the values of one item, with the model.
            items: All that determines an item's values beside the model, as plain values; and what
                the function is given.
            quick: Whether a dry run computes them as well.
        """
        return keep(self.folder, self.engine, self.model, kind, function, items)

    def measure(self, study: str, plan: Plan) -> Results:
        """See :meth:`broca.studies.study.Bench.measure`."""
        groups = list(dict.fromkeys(condition.prompts for condition in plan.conditions))
        self._measure_borders(prompt for group in groups for prompt in plan.groups[group])
        # every row has the untouched answer beside it
        untouched = [Condition(group) for group in groups]
        return self._measure(study, plan, [untouched, list(plan.conditions)])

    def _measure(self, study: str, plan: Plan, stages: Sequence[Sequence[Condition]]) -> Results:
        """Compute what is new of conditions, stage by stage, and find all of the plan."""
        for conditions in stages:
            shares = self._sharing.claim(
                plan,
                conditions,
                lambda condition, prompts: self._key(
                    condition, plan.sets.get(condition.set), prompts
                ),
            )
            self._compute(study, plan, shares)
        self._note(study, plan)
        return self._results(plan)

    # -- what there is to compute ------------------------------------------------------------

    def _measure_borders(self, prompts: Iterable[Prompt]) -> None:
        alike: dict[tuple[str, str], list[Prompt]] = {}
        for prompt in prompts:
            alike.setdefault(_manner(prompt), []).append(prompt)
        new = {manner: listed for manner, listed in alike.items() if manner not in self._borders}
        items = [({"prompts": prompts_digest(listed)}, listed) for listed in new.values()]
        found = self.keep("borders", MeasuringBorder(), items)
        self._borders |= {m: one["border"] for m, one in zip(new, found, strict=True)}

    def _key(
        self, condition: Condition, neurons: NeuronSet | None, prompts: Sequence[Prompt]
    ) -> str:
        """The key of the rows of some prompts under a condition."""
        settings = {
            "model": self.model.identity.fingerprint,
            "dtype": str(self.model.dtype),
            **self._measurement(prompts),
        }
        return key_of(condition, neurons, prompts_digest(prompts), settings)

    def _measurement(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """What determines the rows of prompts beside texts, intervention and model."""
        borders = sorted({self._borders[_manner(prompt)] for prompt in prompts})
        found: dict[str, Any] = {"borders": borders, "match": self.match}
        if self.match != "prefix":  # what the answers are told apart from
            objects = dict.fromkeys(prompt.objects for prompt in prompts)
            found["objects"] = sorted(map(_digest_of_objects, objects))
        return found

    # -- computing ---------------------------------------------------------------------------

    def _compute(self, study: str, plan: Plan, shares: Sequence[Share]) -> None:
        finished = self.folder.rows.finished()
        units = [unit for unit in self._units(plan, shares) if not unit.keys <= finished]
        asking, writing = self._asking(), self._writing(study, plan, units)
        named = {condition_key({"unit": sorted(unit.keys)}): unit for unit in units}
        for unit, answers in self.engine.map(
            asking,
            units,
            f"Measuring {study}",
            [unit.size for unit in units],
            names=list(named),
            stored=lambda name: named[name].keys <= self.folder.rows.finished(),
        ):
            self.folder.append_rows(writing(unit, answers), unit.keys)

    def _asking(self) -> Callable[[Any], list[Any]]:
        """Computes a unit."""
        return Asking(self.model, self.batch_size, self.match)

    def _writing(self, study: str, plan: Plan, units: Sequence[Any]) -> Writing:
        """Makes stored rows of what a unit gave."""
        before = self._before(units)
        return lambda unit, answers: map(
            RowWriter(self.model, study, plan, unit, before).row, answers
        )

    def _units(self, plan: Plan, shares: Sequence[Share]) -> Sequence[Any]:
        """Interventions on the same prompts go together, as many as a unit holds."""
        by_change: dict[str, list[Share]] = {}
        for share in shares:
            by_change.setdefault(share.change, []).append(share)
        alike: dict[tuple[str, ...], list[list[Share]]] = {}
        for listed in by_change.values():
            for portion in self._portions(listed):
                prompts = tuple(prompt.id for share in portion for prompt in share.prompts)
                alike.setdefault(prompts, []).append(portion)
        units = []
        for prompts, portions in alike.items():
            step = max(1, UNIT_ROWS // len(prompts))
            for start in range(0, len(portions), step):
                units.append(self._unit(plan, portions[start : start + step]))
        return units

    def _portions(self, shares: Sequence[Share]) -> list[list[Share]]:
        """Shares in portions of one border, none much larger than a unit."""
        portions: list[list[Share]] = []
        state, n_prompts = "", 0
        for share in sorted(shares, key=self._border):
            size, border = len(share.prompts), self._border(share)
            if not portions or border != state or n_prompts + size > UNIT_ROWS:
                portions.append([])
                state, n_prompts = border, 0
            portions[-1].append(share)
            n_prompts += size
        return portions

    def _border(self, share: Share) -> str:
        """The one border of a share's prompts.

        Raises:
            StudyError: They are of languages with different borders.
        """
        borders = {self._borders[_manner(prompt)] for prompt in share.prompts}
        if len(borders) > 1:
            languages = sorted({prompt.language for prompt in share.prompts})
            raise StudyError(
                "a group holds prompts of languages with different borders before the answer",
                f"group {share.condition.prompts!r}: {', '.join(languages)}",
                "Ask every language in a group of its own",
            )
        return borders.pop()

    def _unit(self, plan: Plan, portions: Sequence[Sequence[Share]]) -> Unit:
        """Each portion is one intervention on the same prompts."""
        changes, shares = {}, {}
        for portion in portions:
            condition = portion[0].condition
            neurons = plan.sets.get(condition.set)
            values = plan.values.get((condition.set, condition.replacement))
            changes[portion[0].change] = make_intervention(condition, neurons, values)
            shares |= {(share.change, p.id): share for share in portion for p in share.prompts}
        prompts = [prompt for share in portions[0] for prompt in share.prompts]
        return Unit(prompts, changes, shares, self._border(portions[0][0]))

    def _before(self, units: Sequence[Unit]) -> dict[str, dict[str, Any]]:
        """Untouched answers to the prompts of some units, those still to be asked left out."""
        prompts = [prompt for unit in units for prompt in unit.prompts]
        keys = set(self._sharing.keys(UNTOUCHED, prompts))
        columns = ["prompt", *BEFORE, "n_answer_tokens"]
        table = self.folder.rows.read(conditions=keys, columns=columns)
        return {row["prompt"]: row for row in table.to_pylist()}

    # -- giving back -------------------------------------------------------------------------

    def _note(self, study: str, plan: Plan) -> None:
        for condition in plan.conditions:
            prompts, change = plan.groups[condition.prompts], change_of(condition, plan)
            keys = sorted(set(self._sharing.keys(change, prompts)))
            self.declared.append({"study": study, "keys": keys, **condition.as_dict()})
            ids = [prompt.id for prompt in prompts]
            self.groups.setdefault(study, {})[condition.prompts] = ids
            for prompt in prompts:
                known = self.asked.get(prompt.id)
                # asked by language, a prompt has its language as field: that of knowledge stays
                if known is None or known.field == known.language:
                    self.asked[prompt.id] = prompt
            self.needed |= {(change, prompt) for prompt in ids}

    def _results(self, plan: Plan) -> Results:
        keys = {
            condition: self._sharing.keys(
                change_of(condition, plan), plan.groups[condition.prompts]
            )
            for condition in plan.conditions
        }
        wanted = {key for listed in keys.values() for key in listed}
        table = StoredRows(self.folder.rows.read(conditions=wanted))
        places = {
            condition: table.places(listed, [p.id for p in plan.groups[condition.prompts]])
            for condition, listed in keys.items()
        }
        return Results(table.columns, places, plan.extra)


@dataclass(frozen=True)
class MeasuringBorder:
    """Measures what stands between prompt and answer."""

    batch_size: int = BORDER_ROWS

    def __call__(self, model: LanguageModel, prompts: Sequence[Prompt]) -> dict[str, Any]:
        return {"border": measure_border(model, prompts, batch_size=self.batch_size)}


def _manner(prompt: Prompt) -> tuple[str, str]:
    """What decides how an answer is written: one border is measured for each."""
    return prompt.language, prompt.form
