"""What the query studies share: questions, their letters, attributions reduced, neurons found.

1. Questions become prompts; each prompt's letter token is found (METHODS §3, proxy task).
2. The letter's probability is attributed to the neurons of all layers, query by query.
3. From all queries together: the neurons of each, by every method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from broca.choices import Letters
from broca.errors import QuestionsError
from broca.estimates import Estimate, share
from broca.neurons import NeuronSet
from broca.prompts import ChoicePrompt, Prompt
from broca.questions import Question
from broca.scores import QuerySets, select_queries
from broca.store import summary_key
from broca.studies.queries.asking import free_form, read_questions, render
from broca.studies.queries.attributing import Attributed, Portion, portions, read_attributed
from broca.studies.queries.config import QueriesConfig
from broca.studies.study import Bench, Plan

ALL = "all"
"""What stands for all fields together in tables; it names no field."""


class QueryBench(Bench, Protocol):
    """What query studies ask of the place where they are measured, besides."""

    def find_letters(self, prompts: Sequence[ChoicePrompt], variant: str) -> list[Letters]:
        """Prompts with their letter tokens, found once."""
        ...

    def attribute(self, parts: Sequence[Portion]) -> list[dict[str, Any]]:
        """Attributions of portions, reduced; those of an earlier sitting are read."""
        ...

    def keep_query_sets(self, sets: QuerySets, name: str) -> None:
        """Store neuron sets of many queries with the run."""
        ...


@dataclass(frozen=True)
class Part:
    """One set of queries with its fields.

    Attributes:
        name: Of the file that holds its neuron sets.
        questions: Question id -> question; its `field` is a domain, or a language.
        letters: Question id -> its prompts with their letters.
        attributed: Question id -> its attributions, reduced.
        sets: The neurons of every query by every method.
    """

    name: str
    questions: Mapping[str, Question]
    letters: Mapping[str, Sequence[Letters]]
    attributed: Mapping[str, Attributed]
    sets: QuerySets

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields, in the order in which they come."""
        return tuple(dict.fromkeys(question.field for question in self.questions.values()))

    @property
    def found(self) -> tuple[str, ...]:
        """Queries for which NA-ICA found neurons."""
        return tuple(query for query, n in self.sets.counts().items() if n)

    def prompts(self, query: str) -> tuple[Prompt, ...]:
        """A query's prompts."""
        return tuple(letters.prompt for letters in self.letters[query])

    def neurons(self, query: str, method: str) -> NeuronSet:
        """A query's neurons by a method."""
        return self.sets.neurons(query, method)

    def bases(self, queries: Sequence[str]) -> tuple[str, ...]:
        """Base ids: versions of one question in several languages are no independent queries."""
        return tuple(self.questions[query].base for query in queries)

    def accuracy(self, queries: Sequence[str] | None = None) -> Estimate:
        """Share of prompts answered by their right letter, with its interval over queries."""
        chosen = list(self.questions if queries is None else queries)
        right = [np.mean([one.correct for one in self.letters[query]]) for query in chosen]
        return share(np.array(right, float), groups=self.bases(chosen))

    def chance(self, queries: Sequence[str] | None = None) -> float:
        """What guessing letters would reach."""
        chosen = self.questions if queries is None else queries
        return float(np.mean([1 / len(self.questions[query].options) for query in chosen]))


@dataclass
class Material:
    """The material of all query studies of a run, made when a study first asks for it.

    Attributes:
        config: The settings.
    """

    config: QueriesConfig
    _parts: dict[str, Part] = field(default_factory=dict)

    def part(self, by: str, bench: QueryBench) -> Part:
        """The queries grouped by field of knowledge, or by language.

        Raises:
            QuestionsError: The questions cannot be used.
            PromptError: A prompt does not fit the model.
            AttributionError: Attribution fails.
            ScoreError: No query keeps a neuron, or there are too few queries.
        """
        if by not in self._parts:
            self._parts[by] = _make_part(self.config, by, bench)
        return self._parts[by]

    def free_form(self, part: Part, bench: QueryBench) -> dict[str, Attributed]:
        """Attributions of the whole right answer of some queries, asked without options."""
        chosen = spread(part, self.config.n_free_form)
        prompts = {query: free_form(part.questions[query]) for query in chosen}
        return _attribute(portions({}, prompts, self.config), bench)


def _make_part(config: QueriesConfig, by: str, bench: QueryBench) -> Part:
    questions = {question.id: question for question in read_questions(config, by)}
    check_fields(question.field for question in questions.values())
    prompts = render(list(questions.values()), config, bench.model.tokenizer)
    flat = [prompt for listed in prompts.values() for prompt in listed]
    letters: dict[str, list[Letters]] = {}
    for found in bench.find_letters(flat, config.letter):
        letters.setdefault(found.prompt.fact, []).append(found)
    attributed = _attribute(portions(letters, {}, config), bench)
    sets = select_queries(
        {query: one.summary for query, one in attributed.items()},
        bench.model.identity,
        site=config.site,
        config=config.scores,
        methods=config.methods,
        seed=config.seed,
    )
    name = "queries" if by == "field" else "languages"
    bench.keep_query_sets(sets, name)
    return Part(name, questions, letters, attributed, sets)


def check_fields(fields: Iterable[str]) -> None:
    """Refuse fields whose figures would have the same names.

    Raises:
        QuestionsError: Two fields differ in signs only, or one is called as all of them are.
    """
    known: dict[str, str] = {}
    for name in fields:
        key = summary_key(name)
        if key == ALL or known.setdefault(key, name) != name:
            raise QuestionsError(
                f"a field cannot be called {name!r}"
                if key == ALL
                else f"the fields {known[key]!r} and {name!r} have the same name in figures",
                key,
                "Signs other than letters, digits, _ and - become _: rename one in the questions"
                if key != ALL
                else "That stands for all fields together: rename it in the questions",
            )


def _attribute(parts: Sequence[Portion], bench: QueryBench) -> dict[str, Attributed]:
    found: dict[str, Attributed] = {}
    for plain in bench.attribute(parts):
        found |= read_attributed(plain)
    return found


def near_chance(low: float, chance: float) -> bool:
    """Whether an accuracy's interval reaches down to guessing."""
    return not low > chance


def own_group(query: str) -> str:
    """Name of the group of a query's own prompts."""
    return f"query/{query}"


def ask_untouched(part: Part) -> Plan:
    """Every query of a part asked untouched; nothing is edited."""
    plan = Plan({own_group(query): part.prompts(query) for query in part.questions})
    plan.ask(plan.groups)
    plan.extra = {"part": part}
    return plan


def other_group(query: str) -> str:
    """Name of the group of prompts of other fields that a query's sets are tried on."""
    return f"unrelated/{query}"


def spread(part: Part, n: int) -> list[str]:
    """At most n queries with neurons, in turn from every field."""
    by_field: dict[str, list[str]] = {field: [] for field in part.fields}
    for query in part.found:
        by_field[part.questions[query].field].append(query)
    turns = max(map(len, by_field.values()), default=0)
    listed = [
        q for turn in range(turns) for found in by_field.values() for q in found[turn : turn + 1]
    ]
    return listed[:n]
