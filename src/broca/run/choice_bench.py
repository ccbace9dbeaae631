"""The bench of query studies: letters, attributions and edits of the last token.

Like `broca.run.bench` it measures what no study has measured yet, keeps it, and finds it again.
What differs: rows are probabilities of letters, with the untouched one from the same batch beside
each, and units are cut so that a prompt runs once for as many edits as possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broca.choices import ChoiceRow, ChoiceTask, Letters, find_letters, measure_choices
from broca.choices.measure import WHOLE_PROMPTS
from broca.interventions import Scale
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.prompts import ChoicePrompt, Prompt
from broca.responses import Responses, record_responses
from broca.run.bench import RunBench, Writing
from broca.run.sharing import SamePrompts, Share
from broca.scores import QuerySets
from broca.store import condition_key, replacing
from broca.studies.queries.attributing import Attributing, Portion
from broca.studies.study import Condition, Plan, Results, make_intervention

UNIT_ROWS = 20_000  # rows computed between two writes to disk
ATTRIBUTIONS = "attributions"


@dataclass(frozen=True)
class ChoiceUnit:
    """Shares of conditions computed and stored together.

    Attributes:
        tasks: Prompts with their edits, which are named by the rows' key.
        shares: Key -> share.
    """

    tasks: Sequence[ChoiceTask]
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

    def __call__(self, unit: ChoiceUnit) -> list[ChoiceRow]:
        return list(measure_choices(self.model, unit.tasks, batch_size=self.batch_size))


class ChoiceBench(RunBench):
    """See the module; the protocol is `broca.studies.queries.QueryBench`."""

    _letters: dict[str, Letters]
    _same_letters: SamePrompts

    def record(
        self, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str = "mean"
    ) -> Responses:
        """Responses to whole prompts, so in smaller batches than copies of the last token."""
        return record_responses(
            self.model,
            prompts,
            sites,
            pooling=pooling,
            folder=self.folder.responses_path,
            batch_size=min(self.batch_size, WHOLE_PROMPTS),
        )

    # -- what query studies ask besides ------------------------------------------------------

    def find_letters(self, prompts: Sequence[ChoicePrompt], variant: str) -> list[Letters]:
        """See :class:`broca.studies.queries.QueryBench`.

        Raises:
            StudyError: Two different prompts have the same id.
        """
        known = self._known_letters()
        self._same_letters.check(prompts)
        new = [prompt for prompt in prompts if prompt.id not in known]
        for letters in find_letters(self.model, new, variant=variant):
            known[letters.prompt.id] = letters
        # the same prompt may stand in another field in another study
        return [_with_prompt(known[prompt.id], prompt) for prompt in prompts]

    def attribute(self, parts: Sequence[Portion]) -> list[dict[str, Any]]:
        """See :class:`broca.studies.queries.QueryBench`."""
        names = [self._portion_name(part) for part in parts]
        missing = [
            part
            for name, part in zip(names, parts, strict=True)
            if not (self.folder.path / name).exists()
        ]
        sizes = [part.size for part in missing]
        for part, found in self.engine.map(
            Attributing(self.model), missing, "Attributing answers", sizes
        ):
            self.folder.write_json(self._portion_name(part), found)
        return [self.folder.read_json(name) for name in names]

    def keep_query_sets(self, sets: QuerySets, name: str) -> None:
        """Store `<name>.parquet` in the run's folder of neuron sets."""
        with replacing(self.folder.path / "sets" / f"{name}.parquet") as beside:
            sets.save(beside)

    def _portion_name(self, part: Portion) -> str:
        key = condition_key({**part.determinants(), **self._model_settings()})
        return f"{ATTRIBUTIONS}/{key}.json"

    def _known_letters(self) -> dict[str, Letters]:
        if not hasattr(self, "_letters"):
            self._letters = {}
            self._same_letters = SamePrompts()
        return self._letters

    def _model_settings(self) -> dict[str, str]:
        return {"model": self.model.identity.fingerprint, "dtype": str(self.model.dtype)}

    # -- conditions --------------------------------------------------------------------------

    def measure(self, study: str, plan: Plan) -> Results:
        """See :meth:`broca.studies.study.Bench.measure`; prompts must have their letters."""
        return self._measure(study, plan, [list(plan.conditions)])

    def _measurement(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Beside texts and model, rows are determined by the tokens that are measured."""
        known = self._known_letters()
        return {
            "measurement": "letters",
            "targets": [known[prompt.id].target for prompt in prompts],
        }

    def _asking(self) -> Callable[[Any], list[Any]]:
        return AskingChoices(self.model, self.batch_size)

    def _writing(self, study: str, plan: Plan, units: Sequence[Any]) -> Writing:
        return lambda unit, rows: (
            _stored(study, row, unit.shares[row.edit].condition, plan.sets) for row in rows
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
        known = self._known_letters()
        edits: dict[str, list[tuple[str, Scale | None]]] = {}
        prompts: dict[str, Prompt] = {}
        for share in shares:
            scale = make_intervention(share.condition, plan.sets.get(share.condition.set))
            assert scale is None or isinstance(scale, Scale)
            for prompt in share.prompts:
                prompts[prompt.id] = prompt
                edits.setdefault(prompt.id, []).append((share.key, scale))
        tasks = [
            ChoiceTask(_with_prompt(known[prompt], prompts[prompt]), listed)
            for prompt, listed in edits.items()
        ]
        return ChoiceUnit(tasks, {share.key: share for share in shares})


def _with_prompt(letters: Letters, prompt: Prompt) -> Letters:
    from dataclasses import replace

    assert isinstance(prompt, ChoicePrompt)
    return letters if letters.prompt == prompt else replace(letters, prompt=prompt)


def _stored(
    study: str, row: ChoiceRow, condition: Condition, sets: Mapping[str, NeuronSet]
) -> dict[str, Any]:
    """One row of the store."""
    prompt = row.letters.prompt
    neurons = sets.get(condition.set)
    return {
        "study": study,
        "condition": row.edit,
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
        "text": prompt.labels[row.chosen],
        "ids": [row.token],
        "correct": row.chosen == prompt.answer,
        "log_p": row.log_p,
        "rank": row.rank,
        "p_after": math.exp(row.log_p),
        "said": "letter" if row.token in _flat(row.letters.candidates) else "other",
        "n_answer_tokens": 1,
        "text_before": prompt.labels[row.chosen_before],
        "correct_before": row.chosen_before == prompt.answer,
        "log_p_before": row.log_p_before,
        "rank_before": row.rank_before,
        "p_before": math.exp(row.log_p_before),
    }


def _flat(tokens: Iterable[Iterable[int]]) -> set[int]:
    return {token for one in tokens for token in one}
