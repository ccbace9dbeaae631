"""Benches that count what would be measured instead of measuring it.

1. Plans are taken as in a run, so that a prompt that several studies ask is counted once.
2. Every answer counts as right. Scores, letters' probabilities and attributions are drawn: the
   number of conditions depends on them only in that relations the model does not know, and
   queries that keep no neurons, fall away, and in that drawn sets hardly hold the same neurons.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from broca.choices import Letters, Words, find_letters, find_words, label_tokens
from broca.choices.words import right_answers
from broca.engines import LocalEngine
from broca.measurements import AnswerRow, answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet
from broca.prompts import ChoicePrompt, Prompt
from broca.responses import Responses
from broca.run.bench import RunBench
from broca.run.choice_bench import ChoiceBench
from broca.run.keeping import Item
from broca.run.sharing import Share
from broca.run.timing import spread
from broca.scores import Labelling, NeuronScores, QuerySets
from broca.store import RunFolder
from broca.store.files import canonical_json
from broca.studies.queries.attributing import Asked, Portion, PromptFigures
from broca.studies.relations.forms import STUDY as FORMS
from broca.studies.study import LETTER_COLUMNS, Plan, Results

TRIED = 24  # prompts of each form of asking, at most
PORTIONS = 4  # in which they are asked
TRYING = 9.0  # seconds for all forms together


class _Trying:
    """The time that forms may take: over where one more portion would not fit into it."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + TRYING
        self._last = time.perf_counter()

    def over(self) -> bool:
        """Asked behind every portion."""
        now = time.perf_counter()
        portion, self._last = now - self._last, now
        return now + portion > self._end


@dataclass
class Estimate:
    """What one study would need.

    Attributes:
        study: Its name.
        conditions: Conditions it names.
        new: Conditions with prompts that no earlier one asks under the same intervention.
        evaluations: Prompt evaluations these need, untouched answers included.
        recorded: Prompts whose responses are recorded.
        attributed: Prompts whose answers are attributed to neurons.
        located: Prompts and facts on which every locator is judged.
    """

    study: str = ""
    conditions: int = 0
    new: int = 0
    evaluations: int = 0
    recorded: int = 0
    attributed: int = 0
    located: int = 0


class _NoResponses(Responses):
    """Responses that were not recorded: 0 everywhere, in no memory."""

    def block(self, site: str, layer: int) -> np.ndarray:
        """See `Responses.block`."""
        where = self.index.block_slice(site, layer)
        return np.broadcast_to(np.float32(0), (len(self.prompt_ids), where.stop - where.start))


class DryBench(RunBench):
    """A bench that counts; see the module.

    Attributes:
        studies: What each study needs, those before its plan included in it.
        scored: Neurons × labellings × prompts.
        recorded_values: Numbers recorded.
        sites: Sites recorded.
    """

    measures = False

    def __init__(self, model: LanguageModel, batch_size: int = 64) -> None:
        super().__init__(model, RunFolder(Path(), {}, None), LocalEngine(), batch_size)
        self.studies: list[Estimate] = []
        self.scored = 0
        self.recorded_values = 0
        self.sites: set[str] = set()
        self._now = Estimate()
        self._scorings = 0
        self._seen: set[object] = set()

    @property
    def evaluations(self) -> int:
        """Prompt evaluations of all studies."""
        return sum(study.evaluations for study in self.studies)

    def record(
        self, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str = "mean"
    ) -> Responses:
        """Responses without values."""
        ids = tuple(prompt.id for prompt in prompts)
        index = NeuronIndex(self.model.identity, tuple(sites))
        if self._is_first((index.sites, pooling, ids)):
            self.sites |= set(index.sites)
            self._now.recorded += len(ids)
            self.recorded_values += len(ids) * len(index)
        return _NoResponses(index, ids, pooling, key="dry")

    def keep(
        self, kind: str, function: Any, items: Sequence[Item], *, quick: bool = False
    ) -> list[dict[str, Any]]:
        """Units of work counted and not done, unless they are quick."""
        if quick:
            return [function(self.model, item) for _, item in items]
        for determinants, _ in items:
            if self._is_first((kind, canonical_json(determinants))):
                self._now.located += 1
        return [{} for _ in items]

    def score(
        self, responses: Responses, labellings: Mapping[str, Labelling]
    ) -> dict[str, NeuronScores]:
        """Scores at random."""
        self._scorings += 1
        size = len(responses.index)
        self.scored += size * sum(int(np.sum(label.included)) for label in labellings.values())
        return {
            name: NeuronScores(
                responses.index, np.random.default_rng([self._scorings, i]).random(size), "drawn"
            )
            for i, name in enumerate(labellings)
        }

    def keep_set(self, neurons: NeuronSet, name: str) -> None:
        """Nothing is kept."""

    def measure(self, study: str, plan: Plan) -> Results:
        """Count what is new, answer that everything is right.

        The forms of asking are really tried, on a few prompts: which one is taken decides how
        long all prompts are.
        """
        results = self._try(plan) if study == FORMS else super().measure(study, plan)
        self._now.study, self._now.conditions = study, len(plan.conditions)
        self.studies.append(self._now)
        self._now = Estimate()
        return results

    def _try(self, plan: Plan) -> Results:
        """Outcomes of some prompts of every group."""
        columns: dict[str, list[Any]] = {name: [] for name in _columns([])}
        places = {}
        answers = self._ask_some(plan)
        for condition in plan.conditions:
            prompts = plan.groups[condition.prompts]
            self._now.evaluations += len(prompts)
            some = [prompt for prompt in prompts if prompt.id in answers]
            start = len(columns["prompt"])
            for name, values in _columns(some).items():
                columns[name] += list(values)
            for name in ("correct", "correct_before"):
                columns[name][start:] = [answers[prompt.id].correct for prompt in some]
            for name in ("text", "text_before"):
                columns[name][start:] = [answers[prompt.id].text for prompt in some]
            places[condition] = np.arange(start, start + len(some))
        arrays = {name: np.array(values, dtype=object) for name, values in columns.items()}
        for name in ("correct", "correct_before"):
            arrays[name] = arrays[name].astype(bool)
        return Results(arrays, places, plan.extra)

    def _ask_some(self, plan: Plan) -> dict[str, AnswerRow]:
        """Ask some prompts of every group, portion by portion: as many as time allows, and on
        until an answer is right, since a form in which none is cannot be told from another."""
        groups = [spread(plan.groups[condition.prompts], TRIED) for condition in plan.conditions]
        answers: dict[str, AnswerRow] = {}
        trying = _Trying()
        for number in range(PORTIONS):
            portion = [prompt for group in groups for prompt in group[number::PORTIONS]]
            asked = {"untouched": None}
            rows = answer_prompts(
                self.model, portion, asked, border=" ", match=self.match, with_log_p=False
            )
            answers |= {row.prompt: row for row in rows}
            if trying.over() and any(row.correct for row in answers.values()):
                break
        return answers

    def _is_first(self, key: object) -> bool:
        """Whether something is to be computed for the first time; from now on it is known."""
        first = key not in self._seen
        self._seen.add(key)
        return first

    def _measure_borders(self, prompts: Any) -> None:
        for prompt in prompts:
            self._borders.setdefault((prompt.language, prompt.form), " ")

    def _compute(self, study: str, plan: Plan, shares: Sequence[Share]) -> None:
        self._now.new += len(shares)
        self._now.evaluations += sum(len(share.prompts) for share in shares)

    def _results(self, plan: Plan) -> Results:
        prompts = [p for c in plan.conditions for p in plan.groups[c.prompts]]
        columns = _columns(prompts)
        places, start = {}, 0
        for condition in plan.conditions:
            stop = start + len(plan.groups[condition.prompts])
            places[condition] = np.arange(start, stop)
            start = stop
        return Results(columns, places, plan.extra)


class DryChoiceBench(DryBench, ChoiceBench):
    """The same for query studies.

    Attributes:
        portions: What would be attributed.
    """

    def __init__(self, model: LanguageModel, batch_size: int = 256) -> None:
        super().__init__(model, batch_size)
        self.portions: list[Portion] = []

    @property
    def letters(self) -> list[Letters]:
        """Prompts whose letters would be found, with tokens and without probabilities."""
        return [one for one in self._known_prompts().values() if isinstance(one, Letters)]

    @property
    def words(self) -> list[Words]:
        """Prompts that would be asked in words."""
        return [one for one in self._known_prompts().values() if isinstance(one, Words)]

    def find_letters(self, prompts: Sequence[ChoicePrompt], variant: str) -> list[Letters]:
        """The tokens of the letters; all answers right."""
        known = self._known_prompts()
        new = [prompt for prompt in prompts if prompt.id not in known]
        tokens = self.model.encode([prompt.text for prompt in new])
        for prompt, text in zip(new, tokens, strict=True):
            ways = label_tokens(self.model, prompt)
            name = variant if variant in ways else next(iter(ways))
            candidates = tuple(zip(*ways.values(), strict=True))
            target = ways[name][prompt.answer]
            known[prompt.id] = Letters(prompt, tuple(text), candidates, name, target, 1.0, True)
        return super().find_letters(prompts, variant)

    def find_words(self, prompts: Sequence[Prompt]) -> list[Words]:
        """The tokens of the answers; all of them right."""
        known = self._known_prompts()
        for prompt in prompts:
            if prompt.id not in known:
                tokens = tuple(self.model.encode([prompt.text])[0])
                rights = right_answers(self.model, prompt, tokens)
                ones = (1.0,) * len(rights[0])
                known[prompt.id] = Words(prompt, tokens, rights, rights[0], 1.0, ones, True, "")
        return super().find_words(prompts)

    def try_forms(
        self, forms: Mapping[str, Sequence[Prompt]], variant: str
    ) -> dict[str, list[Asked]]:
        """Some prompts of every form really asked, portion by portion, as in relation studies."""
        some = {form: spread(prompts, TRIED) for form, prompts in forms.items()}
        found: dict[str, list[Asked]] = {form: [] for form in forms}
        trying = _Trying()
        for number in range(PORTIONS):
            for form, prompts in some.items():
                part = prompts[number::PORTIONS]
                choices = [prompt for prompt in part if isinstance(prompt, ChoicePrompt)]
                if choices:
                    found[form] += find_letters(self.model, choices, variant=variant)
                else:
                    found[form] += find_words(self.model, part)
            right = any(one.correct for listed in found.values() for one in listed)
            if trying.over() and right:
                break
        for prompts in forms.values():  # a run asks them all
            self._ask(prompts, variant)
        return found

    def attribute(self, parts: Sequence[Portion]) -> list[dict[str, Any]]:
        """Neurons at random, some of them common to many queries."""
        for part in parts:
            if self._is_first(self._portion_name(part)):
                self.portions.append(part)
                self._now.attributed += part.size
        return [self._draw(part) for part in parts]

    def keep_query_sets(self, sets: QuerySets, name: str) -> None:
        """Nothing is kept."""

    def _draw(self, part: Portion) -> dict[str, Any]:
        counts = {query: len(listed) for query, listed in part.queries.items()}
        counts |= dict.fromkeys(part.free, 1)
        rng = np.random.default_rng([len(self._seen), part.size])
        index = NeuronIndex(self.model.identity, (part.config.site,))
        return {query: _drawn(query, n, part, len(index), rng) for query, n in counts.items()}


def _columns(prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    """Rows in which every prompt is answered rightly."""
    n, texts = len(prompts), np.full(len(prompts), "", dtype=object)
    return {
        "prompt": np.array([p.id for p in prompts], dtype=object),
        "relation": np.array([p.relation for p in prompts], dtype=object),
        "query": np.array([p.fact for p in prompts], dtype=object),
        **dict.fromkeys(("correct", "correct_before"), np.ones(n, bool)),
        **dict.fromkeys(("log_p", "log_p_before"), np.zeros(n)),
        **dict.fromkeys(("text", "text_before", "said"), texts),
        "n_answer_tokens": np.ones(n, int),
        **dict.fromkeys(LETTER_COLUMNS, np.ones(n)),
    }


def _drawn(
    query: str, n_prompts: int, part: Portion, n_neurons: int, rng: np.random.Generator
) -> dict[str, Any]:
    """What `Attributing` gives of a query: v neurons of its own, and common ones above them."""
    v, u = part.config.v, part.config.u
    own = np.sort(rng.choice(n_neurons, min(v, n_neurons), replace=False))
    shared = np.flatnonzero(rng.random(min(v, n_neurons)) < (1 + u) / 2)
    cluster = np.union1d(own, shared)
    scores = rng.random(len(cluster)) + 4 * np.isin(cluster, shared)

    def drawn() -> list[list[Any]]:
        chosen = np.sort(rng.choice(n_neurons, len(own), replace=False))
        return [chosen.tolist(), rng.random(len(own)).tolist()]

    figures = PromptFigures("", query, 1.0, 1.0, 0.0, 0.0, 0, "", False, True)
    return {
        "cluster": [cluster.tolist(), scores.tolist()],
        **{name: drawn() for name in ("knowledge", "activation")},
        "located": {name: drawn() for name in part.config.locators},
        "prompts": [asdict(figures)] * n_prompts,
        "tops": [[own.tolist(), np.ones(len(own)).tolist()]] * n_prompts,
    }
