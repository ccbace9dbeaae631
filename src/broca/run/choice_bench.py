"""The bench of query studies: letters or words, attributions, and edits where answers are read.

Like `broca.run.bench` it measures what no study has measured yet, keeps it, and finds it again.
What differs: rows are probabilities of letters or of whole answers, with the untouched one from
the same batch beside each, and units are cut so that a prompt runs once for as many edits as
possible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, TypeVar

from broca.choices import (
    ChoiceRow,
    ChoiceTask,
    Letters,
    WordRow,
    Words,
    WordTask,
    measure_choices,
    measure_words,
)
from broca.choices.measure import WHOLE_PROMPTS
from broca.interventions import Intervention, Positions
from broca.model import LanguageModel
from broca.prompts import ChoicePrompt, Prompt
from broca.run.bench import RunBench
from broca.run.choice_rows import stored_row
from broca.run.finding_targets import FindingLetters, FindingWords, items_of
from broca.run.sharing import SamePrompts, Share
from broca.run.units import Writing
from broca.scores import QuerySets
from broca.store import condition_key, replacing
from broca.studies.conditions import make_intervention
from broca.studies.queries.attributing import Asked, Attributing, Portion
from broca.studies.study import Plan, Results

Found = TypeVar("Found", Letters, Words)
P = TypeVar("P", bound=Prompt)

UNIT_ROWS = 20_000  # rows computed between two writes to disk
ATTRIBUTIONS = "attributions"


@dataclass(frozen=True)
class ChoiceUnit:
    """Shares of conditions computed and stored together.

    Attributes:
        tasks: Prompts with their edits, which are named by the rows' key.
        shares: Key -> share.
    """

    tasks: Sequence[ChoiceTask | WordTask]
    shares: Mapping[str, Share]

    @property
    def keys(self) -> set[str]:
        """Keys of all its rows."""
        return set(self.shares)

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(len(task.edits) for task in self.tasks)


@dataclass(frozen=True)
class AskingChoices:
    """Computes a unit: all it needs is the model."""

    model: LanguageModel
    batch_size: int

    def __call__(self, unit: ChoiceUnit) -> list[ChoiceRow | WordRow]:
        letters = [task for task in unit.tasks if isinstance(task, ChoiceTask)]
        words = [task for task in unit.tasks if isinstance(task, WordTask)]
        return [
            *measure_choices(self.model, letters, batch_size=self.batch_size),
            *measure_words(self.model, words, batch_size=self.batch_size),
        ]


class ChoiceBench(RunBench):
    """See the module; the protocol is `broca.studies.queries.QueryBench`."""

    _known: dict[str, Asked]
    _same_asked: SamePrompts
    _option_positions: dict[str, Positions]

    @property
    def _recorded_at_once(self) -> int:
        """Whole prompts are recorded, so fewer at once than copies of the last token."""
        return min(self.batch_size, WHOLE_PROMPTS)

    # -- what query studies ask besides ------------------------------------------------------

    def find_letters(self, prompts: Sequence[ChoicePrompt], variant: str) -> list[Letters]:
        """See :class:`broca.studies.queries.QueryBench`.

        Raises:
            StudyError: Two different prompts have the same id.
        """
        return self._find(Letters, prompts, FindingLetters(variant), "letters")

    def find_words(self, prompts: Sequence[Prompt]) -> list[Words]:
        """See :class:`broca.studies.queries.QueryBench`.

        Raises:
            StudyError: Two different prompts have the same id.
        """
        return self._find(Words, prompts, FindingWords(), "words")

    def try_forms(
        self, forms: Mapping[str, Sequence[Prompt]], variant: str
    ) -> dict[str, list[Asked]]:
        """See :class:`broca.studies.queries.QueryBench`."""
        return {form: self._ask(prompts, variant) for form, prompts in forms.items()}

    def _ask(self, prompts: Sequence[Prompt], variant: str) -> list[Asked]:
        choices = [prompt for prompt in prompts if isinstance(prompt, ChoicePrompt)]
        return [*(self.find_letters(choices, variant) if choices else self.find_words(prompts))]

    def _find(
        self,
        kind: type[Found],
        prompts: Sequence[P],
        finding: FindingLetters | FindingWords,
        name: str,
    ) -> list[Found]:
        """Prompts with the tokens of their answers; those found before are not asked again."""
        known = self._known_prompts()
        self._same_asked.check(prompts)
        new: list[Any] = [prompt for prompt in prompts if prompt.id not in known]
        items = items_of(finding, new)
        kept = self.keep(name, finding, items) if items else []
        plain = [one for part in kept for one in part["found"]]
        known |= {p.id: finding.read(p, one) for p, one in zip(new, plain, strict=True)}
        # the same prompt may stand in another field in another study
        found = [_with_prompt(known[prompt.id], prompt) for prompt in prompts]
        return [one for one in found if isinstance(one, kind)]

    def attribute(self, parts: Sequence[Portion]) -> list[dict[str, Any]]:
        """See :class:`broca.studies.queries.QueryBench`."""
        names = [self._portion_name(part) for part in parts]
        missing = [
            part
            for name, part in zip(names, parts, strict=True)
            if not (self.folder.path / name).exists()
        ]
        for part, found in self.engine.map(
            Attributing(self.model),
            missing,
            "Attributing answers",
            [part.size for part in missing],
            names=[PurePath(self._portion_name(part)).stem for part in missing],
            stored=lambda name: (self.folder.path / ATTRIBUTIONS / f"{name}.json").exists(),
        ):
            if not self.folder.finished:  # by another process, which has it
                self.folder.write_json(self._portion_name(part), found)
        return [self.folder.read_json(name) for name in names]

    def keep_query_sets(self, sets: QuerySets, name: str) -> None:
        """Store `<name>.parquet` in the run's folder of neuron sets."""
        if self.folder.joined:
            return
        with replacing(self.folder.path / "sets" / f"{name}.parquet") as beside:
            sets.save(beside)

    def _portion_name(self, part: Portion) -> str:
        key = condition_key({**part.determinants(), **self._model_settings()})
        return f"{ATTRIBUTIONS}/{key}.json"

    def _known_prompts(self) -> dict[str, Asked]:
        if not hasattr(self, "_known"):
            self._known = {}
            self._same_asked = SamePrompts()
            self._option_positions = {}
        return self._known

    def _model_settings(self) -> dict[str, str]:
        return {"model": self.model.identity.fingerprint, "dtype": str(self.model.dtype)}

    # -- conditions --------------------------------------------------------------------------

    def measure(self, study: str, plan: Plan) -> Results:
        """See :meth:`broca.studies.study.Bench.measure`; prompts must have been asked before."""
        return self._measure(study, plan, [list(plan.conditions)])

    def _measurement(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Beside texts and model, rows are determined by the tokens that are measured."""
        asked = [self._known_prompts()[prompt.id] for prompt in prompts]
        kinds = {type(one).__name__.lower() for one in asked}
        return {
            "measurement": "+".join(sorted(kinds)),
            "targets": [one.target for one in asked],
        }

    def _asking(self) -> Callable[[Any], list[Any]]:
        return AskingChoices(self.model, self.batch_size)

    def _writing(self, study: str, plan: Plan, units: Sequence[Any]) -> Writing:
        return lambda unit, rows: (
            stored_row(study, row, unit.shares[row.edit].condition, plan.sets) for row in rows
        )

    def _units(self, plan: Plan, shares: Sequence[Share]) -> Sequence[Any]:
        """Shares in the order of the plan, cut by the number of rows."""
        cuts: list[list[Share]] = [[]]
        n_rows = 0
        for share in shares:
            size = len(share.prompts)
            if n_rows + size > UNIT_ROWS and cuts[-1]:
                cuts.append([])
                n_rows = 0
            cuts[-1].append(share)
            n_rows += size
        return [self._choice_unit(plan, cut) for cut in cuts if cut]

    def _choice_unit(self, plan: Plan, shares: Sequence[Share]) -> ChoiceUnit:
        known = self._known_prompts()
        edits: dict[str, list[tuple[str, Intervention | None]]] = {}
        prompts: dict[str, Prompt] = {}
        for share in shares:
            condition = share.condition
            neurons = plan.sets.get(condition.set)
            values = plan.values.get((condition.set, condition.replacement))
            for prompt in share.prompts:
                there = replace(condition, positions=self._places(condition.positions, prompt))
                prompts[prompt.id] = prompt
                edits.setdefault(prompt.id, []).append(
                    (share.key, make_intervention(there, neurons, values))
                )
        tasks = [
            _task(_with_prompt(known[prompt], prompts[prompt]), listed)
            for prompt, listed in edits.items()
        ]
        return ChoiceUnit(tasks, {share.key: share for share in shares})

    def _places(self, positions: Positions, prompt: Prompt) -> Positions:
        """Positions as an intervention takes them: "options" are those of a prompt's lines."""
        if positions != "options":
            return positions
        assert isinstance(prompt, ChoicePrompt)
        known = self._option_positions.get(prompt.id)
        if known is None:
            known = self.model.positions_of(prompt.text, prompt.option_lines())
            self._option_positions[prompt.id] = known
        return known


def _task(one: Asked, edits: Sequence[tuple[str, Intervention | None]]) -> ChoiceTask | WordTask:
    return ChoiceTask(one, edits) if isinstance(one, Letters) else WordTask(one, edits)


def _with_prompt(one: Asked, prompt: Prompt) -> Asked:
    if one.prompt == prompt:
        return one
    if isinstance(one, Letters):
        assert isinstance(prompt, ChoicePrompt)
        return replace(one, prompt=prompt)
    return replace(one, prompt=prompt)
