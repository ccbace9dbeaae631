"""Fields against shuffled fields: what localisation, overlap and embedding have in common.

1. The queries for which NA-ICA found neurons, with their fields and their scores.
2. A statistic of the fields is computed as they are, and with the fields' names dealt anew to the
   queries, each field keeping its number. Where the same question stands in several languages,
   languages are dealt anew among its versions only: what a question is about stays out.
3. p = (shuffles at least as extreme + 1) / (shuffles + 1), Holm over fields or pairs.

The null is that a query's field says nothing about its neurons. It tells nothing of what in a
field does: queries of one field may also share a relation or a wording.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from broca.estimates import Alternative, holm, random_sets_test
from broca.questions import Question, require_several_fields
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.material import Material, Part, QueryBench, ask_untouched, near_chance
from broca.studies.study import Findings, Plan, Results

Statistic = Callable[[np.ndarray], np.ndarray]
"""Fields of the queries by number, int [draw, query], to values [draw, value]."""

TOO_FEW = "Fewer than two fields have queries with neurons: there is nothing to compare."
_NUMBERS = 1 << 22  # held at a time, so that memory does not grow with the shuffles
_DIGITS = 10  # sums of the same numbers in another order are equal


def plan_untouched(material: Material, bench: QueryBench, by: str) -> Plan:
    """Every query asked untouched; nothing is edited.

    Raises:
        QuestionsError: There is one field only.
    """
    part = material.part(by, bench)
    require_several_fields(list(part.questions.values()))
    return ask_untouched(part)


@dataclass(frozen=True)
class ShuffledStudy(ABC):
    """A study of fields against shuffled fields, by field of knowledge or by language.

    Attributes:
        name: As recipes name it.
        by: "field" or "language".
        prefix: Of its figures.
    """

    name: str
    by: str
    prefix: str
    several_fields: ClassVar[bool] = True

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Every query asked untouched."""
        return plan_untouched(material, bench, self.by)

    def summarise(self, material: Material, results: Results) -> Findings:
        """What the study finds, with what must be said beside it."""
        part: Part = results.extra["part"]
        scores = FieldScores.of(part, self.by)
        if len(scores.fields) < 2:
            return Findings({}, {}, [TOO_FEW])
        found = self.compare(part, scores, material.config)
        said = [*confounded(scores, self.by), *caution(part, material.config.seed)]
        return replace(found, words=[*found.words, *said])

    @abstractmethod
    def compare(self, part: Part, scores: FieldScores, config: QueriesConfig) -> Findings:
        """The fields against shuffled ones; every study its own."""


@dataclass(frozen=True, eq=False)
class FieldScores:
    """Queries that have neurons, with their fields and scores.

    Attributes:
        queries: Their ids.
        fields: Names of the fields that have such queries.
        codes: Number of each query's field, int [query].
        strata: Labels are dealt anew only among queries of one stratum, int [query].
        neurons: Every neuron of these queries, flat positions, ascending [neuron].
        scores: NA-ICA, 0 where a neuron is not among a query's, float64 [query, neuron].
    """

    queries: tuple[str, ...]
    fields: tuple[str, ...]
    codes: np.ndarray
    strata: np.ndarray
    neurons: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, part: Part, by: str) -> FieldScores:
        """The NA-ICA scores of a part's queries."""
        rankings = part.sets.rankings["na-ica"]
        queries = part.found
        listed = [part.questions[query] for query in queries]
        fields = tuple(field for field in part.fields if any(q.field == field for q in listed))
        neurons = np.unique(np.concatenate([rankings[query].neurons for query in queries]))
        scores = np.zeros((len(queries), len(neurons)))
        for row, query in zip(scores, queries, strict=True):
            row[np.searchsorted(neurons, rankings[query].neurons)] = rankings[query].scores
        codes = np.array([fields.index(question.field) for question in listed])
        return cls(queries, fields, codes, _strata(listed, by), neurons, scores)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Queries of each field, int [field]."""
        return np.bincount(self.codes, minlength=len(self.fields))

    def members(self, codes: np.ndarray) -> np.ndarray:
        """Codes [draw, query] as 0 and 1, float64 [draw, field, query]."""
        return (codes[:, None, :] == np.arange(len(self.fields))[:, None]).astype(float)

    def shuffles(self, n: int, seed: int, step: int) -> Iterator[np.ndarray]:
        """n times the codes dealt anew within strata, in chunks int [step, query]."""
        rng = np.random.default_rng(seed)
        place = np.argsort(self.strata, kind="stable")
        for start in range(0, n, step):
            keys = self.strata + rng.random((min(step, n - start), len(self.codes)))
            dealt = np.empty(keys.shape, int)
            dealt[:, place] = self.codes[np.argsort(keys, axis=1)]
            yield dealt


def _strata(listed: Sequence[Question], by: str) -> np.ndarray:
    """Versions of one question in several languages are a stratum, all other queries another."""
    if by != "language":
        return np.zeros(len(listed), int)
    facts = [question.base for question in listed]
    known = {fact: i for i, fact in enumerate(sorted(set(facts)), 1)}
    return np.array([known[fact] if facts.count(fact) > 1 else 0 for fact in facts])


@dataclass(frozen=True)
class AgainstShuffled:
    """A value beside the same of shuffled fields.

    Attributes:
        value: With the fields as they are.
        shuffled: Median of the shuffles.
        low: 2.5 % of the shuffles lie below.
        high: 2.5 % of them lie above.
        p: Permutation p-value.
    """

    value: float
    shuffled: float
    low: float
    high: float
    p: float

    def record(self, name: str) -> dict[str, float]:
        """The same as entries of a record, the value under a name."""
        return {
            name: self.value,
            "shuffled": self.shuffled,
            "shuffled_low": self.low,
            "shuffled_high": self.high,
            "p": self.p,
        }


def against_shuffled(
    scores: FieldScores,
    statistic: Statistic,
    *,
    n: int,
    seed: int,
    size: int,
    alternative: Alternative = "greater",
) -> list[AgainstShuffled]:
    """Every value of a statistic against its shuffles.

    Args:
        scores: The queries.
        statistic: What is computed of their fields.
        n: Number of shuffles.
        seed: Of the shuffles.
        size: Numbers that the statistic holds per shuffle, for the memory.
        alternative: Which shuffles are as extreme.
    """
    observed = statistic(scores.codes[None])[0]
    step = max(1, _NUMBERS // max(1, size))
    drawn = np.concatenate([statistic(dealt) for dealt in scores.shuffles(n, seed, step)])
    return [
        beside(float(value), column, alternative)
        for value, column in zip(observed, drawn.T, strict=True)
    ]


def beside(value: float, drawn: np.ndarray, alternative: Alternative) -> AgainstShuffled:
    """A value beside draws of the same under the null, [draw]."""
    drawn = np.round(drawn, _DIGITS)
    low, median, high = np.quantile(drawn, (0.025, 0.5, 0.975))
    p = random_sets_test(round(value, _DIGITS), drawn, alternative=alternative)
    return AgainstShuffled(value, float(median), float(low), float(high), p)


def add_holm(records: Sequence[dict[str, Any]], name: str = "p") -> None:
    """Give every record its p-value after Holm's correction, as `<name>_holm`."""
    for record, p in zip(records, holm([record[name] for record in records]), strict=True):
        record[f"{name}_holm"] = float(p)


def shuffled_figures(start: str, record: dict[str, Any], name: str) -> dict[str, Any]:
    """Figures of one record: its value, the shuffles, the p-values."""
    figures = {
        f"{start}.{name}": record[name],
        f"{start}.{name}.shuffled": record["shuffled"],
        f"{start}.{name}.shuffled.low": record["shuffled_low"],
        f"{start}.{name}.shuffled.high": record["shuffled_high"],
        f"{start}.{name}.p": record["p"],
    }
    return figures | ({f"{start}.{name}.p_holm": record["p_holm"]} if "p_holm" in record else {})


def caution(part: Part, seed: int) -> list[str]:
    """What must be said where the model does not know the answers."""
    accuracy, chance = part.accuracy(), part.chance()
    if not near_chance(accuracy.low, chance):
        return []
    return [
        f"The model answers near chance ({accuracy.value:.0%} right [{accuracy.low:.0%}, "
        f"{accuracy.high:.0%}], {chance:.0%} by chance): this says nothing about where knowledge "
        "lies."
    ]


def confounded(scores: FieldScores, by: str) -> list[str]:
    """What must be said where languages are dealt anew over all questions."""
    if by != "language" or scores.strata.any():
        return []
    return [
        "No question was recognised as standing in several languages (ids that differ only in "
        '"@" and the language at their end): languages were dealt anew over all questions, so '
        "what they ask about is confounded with their language."
    ]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
