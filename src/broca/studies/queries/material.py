"""What the query studies share: queries, their answers, attributions reduced, neurons found.

1. Questions become prompts with options, and each prompt's letter token is found (METHODS §3,
   proxy task); or facts and questions are asked in words, and the tokens of the answer are found.
2. Queries that the model answers wrongly are left out where the settings say so.
3. The probability of letter or answer is attributed to the neurons of all layers, query by query.
4. From all queries together: the neurons of each, by every method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from broca.choices import Letters, Words
from broca.errors import QuestionsError
from broca.estimates import Estimate, share
from broca.neurons import NeuronSet
from broca.prompts import ChoicePrompt, Form, Prompt
from broca.questions import Question
from broca.responses import Responses
from broca.scores import QuerySets, select_queries
from broca.store import summary_key
from broca.studies.queries.asking import free_form, read_apart, render
from broca.studies.queries.attributing import (
    Asked,
    Attributed,
    Portion,
    portions,
    read_attributed,
)
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.facts import choose_source, read_word_queries
from broca.studies.queries.forms import Tried, choose_form, form_of
from broca.studies.queries.screening import Screened, keep_known, screen, what_it_wrote
from broca.studies.queries.told import asking_words, forms_words
from broca.studies.replacing import Kind, Replaced
from broca.studies.study import Bench, Plan

Place = Literal["answer", "options", "all"]

ALL = "all"
"""What stands for all fields together in tables; it names no field."""


class QueryBench(Bench, Protocol):
    """What query studies ask of the place where they are measured, besides."""

    def find_letters(self, prompts: Sequence[ChoicePrompt], variant: str) -> list[Letters]:
        """Prompts with their letter tokens, found once."""
        ...

    def find_words(self, prompts: Sequence[Prompt]) -> list[Words]:
        """Prompts with the tokens of their answers in words, found once."""
        ...

    def try_forms(
        self, forms: Mapping[str, Sequence[Prompt]], variant: str
    ) -> dict[str, list[Asked]]:
        """The same prompts in several forms, asked to compare these: letters or words."""
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
        answer: "letters" or "words".
        questions: Question id -> question; its `field` is a domain, a relation or a language.
        asked: Question id -> its prompts with the tokens of their answers.
        attributed: Question id -> its attributions, reduced.
        sets: The neurons of every query by every method.
        screened: Every query that the model was asked, those left out among them.
        left_out: Field -> why it is left out.
        tried: Forms of asking that were tried to choose one.
        place: Where neurons are scaled, as the setting `positions` says it.
        replacement: What is put in the place of suppressed neurons; zero if None.
    """

    name: str
    answer: str
    questions: Mapping[str, Question]
    asked: Mapping[str, Sequence[Asked]]
    attributed: Mapping[str, Attributed]
    sets: QuerySets
    screened: Sequence[Screened]
    left_out: Mapping[str, str] = field(default_factory=dict)
    tried: Sequence[Tried] = ()
    place: Place = "answer"
    replacement: Replaced | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields, in the order in which they come."""
        return tuple(dict.fromkeys(question.field for question in self.questions.values()))

    @property
    def form(self) -> str:
        """The form of asking."""
        return next(one.prompt.form for listed in self.asked.values() for one in listed)

    @property
    def found(self) -> tuple[str, ...]:
        """Queries for which NA-ICA found neurons."""
        return tuple(query for query, n in self.sets.counts().items() if n)

    def prompts(self, query: str) -> tuple[Prompt, ...]:
        """A query's prompts."""
        return tuple(one.prompt for one in self.asked[query])

    @property
    def positions(self) -> str:
        """Where neurons are scaled, as a condition says it."""
        if self.place == "answer":  # wherever a token of the answer is read
            return "last" if self.answer == "letters" else "answer"
        return self.place

    def neurons(self, query: str, method: str) -> NeuronSet:
        """A query's neurons by a method."""
        return self.sets.neurons(query, method)

    def bases(self, queries: Sequence[str]) -> tuple[str, ...]:
        """Base ids: versions of one question in several languages are no independent queries."""
        return tuple(self.questions[query].base for query in queries)

    def copied(self) -> tuple[int, int]:
        """Queries with the right answer among a prompt's demonstrations; others that name it."""
        asked = [self.prompts(query) for query in self.questions]
        shown = [any(one.is_shown for one in prompts) for prompts in asked]
        named = [any(one.is_named for one in prompts) for prompts in asked]
        return sum(shown), sum(n and not s for n, s in zip(named, shown, strict=True))

    def accuracy(self, field: str | None = None) -> Estimate:
        """Share of prompts answered rightly, of all queries that were asked, over these."""
        chosen = [one for one in self.screened if field in (None, one.field)]
        groups = tuple(one.base for one in chosen)
        return share(np.array([one.right for one in chosen]), groups=groups)

    def chance(self, field: str | None = None) -> float:
        """What guessing would reach: letters at random, or the field's most frequent answer."""
        return float(np.mean([o.guess for o in self.screened if field in (None, o.field)]))


@dataclass
class Material:
    """The material of all query studies of a run, made when a study first asks for it.

    Attributes:
        config: The settings.
    """

    config: QueriesConfig
    _parts: dict[tuple[str, str], Part] = field(default_factory=dict)

    def part(self, by: str, bench: QueryBench, answer: str | None = None) -> Part:
        """The queries grouped by field of knowledge, or by language.

        Args:
            by: "field" or "language".
            bench: Where to measure.
            answer: "letters" or "words"; the settings' by default.

        Raises:
            QuestionsError: The questions cannot be used, or the model answers too few rightly.
            FactsError: The facts cannot be used.
            PromptError: A prompt does not fit the model.
            AttributionError: Attribution fails.
            ScoreError: No query keeps a neuron, or there are too few queries.
        """
        chosen = answer or self.config.answer
        if chosen == "auto":
            chosen = self._choose(by, bench)
        if (by, chosen) not in self._parts:
            self._parts[by, chosen] = _make_part(self.config, by, bench, chosen)
        return self._parts[by, chosen]

    def _choose(self, by: str, bench: QueryBench) -> str:
        """Letters where the model chooses them above chance, by the interval; else words."""
        try:
            questions, asked, _ = _ask_letters(self.config, by, bench, judged=True)
        except QuestionsError:
            if choose_source(self.config, embedded=bench.model.is_embedded) == "questions":
                raise
            return "words"
        listed = screen({query: questions[query] for query in asked}, asked)
        right = share(
            np.array([one.right for one in listed]), groups=tuple(one.base for one in listed)
        )
        chance = float(np.mean([one.guess for one in listed]))
        return "words" if near_chance(right.low, chance) else "letters"

    def told(self) -> list[str]:
        """How what was asked is put, a sentence per set of queries: for dry runs."""
        return [asking_words(part) for part in self._parts.values()]

    def free_form(self, part: Part, bench: QueryBench) -> dict[str, Attributed]:
        """Attributions of the whole right answer of some queries, asked without options."""
        chosen = spread(part, self.config.n_free_form)
        prompts = {query: free_form(part.questions[query]) for query in chosen}
        return _attribute(portions({}, prompts, self.config), bench)


def record_part(part: Part, bench: QueryBench) -> Responses:
    """What the neurons of a part's site say to its prompts, where they are scaled."""
    prompts = [prompt for query in part.questions for prompt in part.prompts(query)]
    return bench.record(prompts, (part.sets.site,), "last" if part.place == "answer" else "mean")


def replaced_by(kind: Kind, part: Part, bench: QueryBench, seed: int) -> Replaced | None:
    """What a kind of replacement puts in the place of suppressed neurons; None for zero."""
    if kind == "zero":
        return None
    owners = {query: question.field for query, question in part.questions.items()}
    labels = [owners[query] for query in part.questions for _ in part.asked[query]]
    return Replaced(kind, record_part(part, bench), labels, seed, owners)


def placed(part: Part, place: Place, config: QueriesConfig, bench: QueryBench) -> Part:
    """A part with its neurons edited at a place, replaced as the settings say."""
    part = replace(part, place=place)
    return replace(part, replacement=replaced_by(config.replacement, part, bench, config.seed))


Queries = tuple[dict[str, Question], dict[str, list[Asked]], Sequence[Tried]]
"""Question id -> question, and its prompts with the tokens of their answers; the forms tried."""


def _make_part(config: QueriesConfig, by: str, bench: QueryBench, answer: str) -> Part:
    if answer == "words" and config.positions == "options":
        raise QuestionsError(
            "answers in words have no lines of options",
            'positions = "options"',
            'Use answer = "letters", or positions "answer" or "all"',
        )
    ask = _ask_letters if answer == "letters" else _ask_words
    questions, asked, tried = ask(config, by, bench)
    screened = screen(questions, asked)
    wrote = f"asked in {forms_words(asked, tried)}; {what_it_wrote(asked)}"
    kept, left_out = keep_known(config, by, answer, questions, screened, wrote)
    asked = {query: asked[query] for query in kept}
    attributed = _attribute(portions(asked, {}, config), bench)
    sets = select_queries(
        {query: one.summary for query, one in attributed.items()},
        bench.model.identity,
        site=config.site,
        config=config.scores,
        methods=config.methods,
        seed=config.seed,
    )
    name = "queries" if by == "field" else "languages"
    if answer != config.answer and config.answer != "auto":
        name = f"{name}.{answer}"
    bench.keep_query_sets(sets, name)
    kept_questions = {query: questions[query] for query in kept}
    part = Part(name, answer, kept_questions, asked, attributed, sets, screened, left_out, tried)
    return placed(part, config.positions, config, bench)


def _ask_letters(
    config: QueriesConfig, by: str, bench: QueryBench, *, judged: bool = False
) -> Queries:
    """Questions with their letters; `judged` asks only to see how many are right."""
    form, tried = choose_form(config, by, bench, "letters")
    asking = Form(form, config.shots, bench.model.chat)
    chosen = form_of(config, "letters", embedded=bench.model.is_embedded) == "auto"
    apart = read_apart(config, by, shows=asking.has_shots, tries=chosen)
    questions = {question.id: question for question in apart.asked}
    check_fields(question.field for question in questions.values())
    prompts = render(list(apart.asked), config, asking, apart.shown)
    flat = [prompt for listed in prompts.values() for prompt in listed]
    found: Sequence[Asked]
    if judged:
        found = bench.try_forms({form: flat}, config.letter)[form]
    else:
        found = bench.find_letters(flat, config.letter)
    return questions, _by_query(found), tried


def _ask_words(config: QueriesConfig, by: str, bench: QueryBench) -> Queries:
    form, tried = choose_form(config, by, bench)
    chosen = form_of(config, "words", embedded=bench.model.is_embedded) == "auto"
    read = read_word_queries(config, by, bench.model, form, tries=chosen)
    check_fields(question.field for question in read.questions.values())
    flat = [prompt for listed in read.prompts.values() for prompt in listed]
    return dict(read.questions), _by_query(bench.find_words(flat)), tried


def _by_query(found: Iterable[Asked]) -> dict[str, list[Asked]]:
    asked: dict[str, list[Asked]] = {}
    for one in found:
        asked.setdefault(one.prompt.fact, []).append(one)
    return asked


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


def same_group(query: str) -> str:
    """Name of the group of prompts of its own field that a query's sets are tried on."""
    return f"same/{query}"


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
