"""Facts, and questions without their options, as queries that are answered in words.

1. A query is one fact in `n_prompts` wordings, drawn by seed and fact; where a relation has fewer,
   the same wordings come again behind other demonstrations, if the form of asking has any.
2. Demonstrations are drawn from facts kept for them, and where a form is to be chosen, it is chosen
   on facts kept for that: none of these is asked about.
3. Fields are relations, or their domains; by language they are languages.

Questions of a file are asked as they stand, without options, in the same forms and by the same
rules; behind other demonstrations where there are to be several prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from broca.errors import FactsError, QuestionsError
from broca.facts import Fact, Relation
from broca.facts.load import load_those_in
from broca.facts.seeding import stable_number
from broca.facts.shipped import SHIPPED, facts_for
from broca.model import LanguageModel
from broca.prompts import Form, Prompt, render_fact_prompts, render_word_prompts
from broca.questions import Question
from broca.studies.queries.apart import Apart, set_apart
from broca.studies.queries.asking import read_apart
from broca.studies.queries.config import QueriesConfig

ASKED_PER_KEPT = 3  # queries asked for every one that may be kept
SPARE_ROUNDS = 2  # drawings of demonstrations beyond those that are needed
MOST_OPTIONS = 24  # answers that a query's answer is told from


@dataclass(frozen=True)
class WordQueries:
    """Queries to be answered in words.

    Attributes:
        questions: Query id -> what is asked; options are the answers it may be told from.
        prompts: Query id -> its prompts.
    """

    questions: Mapping[str, Question]
    prompts: Mapping[str, tuple[Prompt, ...]]

    def only(self, queries: Sequence[str]) -> WordQueries:
        """The same of some queries, in their order."""
        return WordQueries(
            {query: self.questions[query] for query in queries},
            {query: self.prompts[query] for query in queries},
        )


def read_word_queries(
    config: QueriesConfig,
    by: str,
    model: LanguageModel,
    form: str,
    *,
    tries: bool = False,
    sample: bool = False,
) -> WordQueries:
    """The queries of a study in words: by field in one language, or by language in several.

    Args:
        config: The settings.
        by: "field" or "language".
        model: Gives its chat template.
        form: Form of asking.
        tries: Whether facts are kept for the choice of a form.
        sample: Those, in place of the ones that are asked.

    Raises:
        FactsError: The facts cannot be read or used.
        QuestionsError: The questions cannot; or "language" finds one language only.
        PromptError: The form of asking does not fit.
    """
    source = choose_source(config, embedded=model.is_embedded)
    if source == "questions":
        return _from_questions(config, by, model, form, tries, sample)
    asking = Asking(config, by, model, Form(form, config.shots, model.chat), tries)
    questions: dict[str, Question] = {}
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for relations in by_language(source, config, by):
        parts = {name: asking.part(relation) for name, relation in relations.items()}
        shown = {name: replace(relations[name], facts=part.shown) for name, part in parts.items()}
        for name, part in parts.items():
            asked = replace(relations[name], facts=part.tried if sample else part.asked)
            if not asked.facts:
                continue
            listed = asking.prompts(asked, shown)
            field = asking.field(asked)
            for fact in asked.facts:
                query = f"{fact.id}@{asked.language}"
                prompts[query] = tuple(replace(p, fact=query, field=field) for p in listed[fact.id])
                questions[query] = as_question(relations[name], fact, field, listed[fact.id][0])
    return WordQueries(questions, prompts)


def choose_source(config: QueriesConfig, *, embedded: bool) -> str:
    """ "questions", or where facts are read from."""
    if config.facts == "auto" and config.questions not in SHIPPED:
        return "questions"
    return facts_for(config.facts, embedded=embedded)


def by_language(source: str, config: QueriesConfig, by: str) -> list[dict[str, Relation]]:
    """The relations that are asked for, language by language."""
    languages = config.languages or ("en",)
    if by == "field":
        languages = languages[:1]
    elif len(languages) < 2:
        raise QuestionsError(
            "facts in two languages are needed, there is one",
            ", ".join(languages),
            "Name several with languages, or leave out the studies by language",
        )
    found = []
    for language in languages:
        relations = load_those_in(source, language)
        wanted = {
            name: relation
            for name, relation in relations.items()
            if config.fields is None or field_of(relation, config) in config.fields
            # an answer is told from others
            if len(objects_of(relation)) > 1
        }
        if not wanted:
            raise FactsError(
                "no facts are left to ask for",
                f"{source}, language {language}, fields {', '.join(config.fields or ('all',))}",
                f"There are {', '.join(sorted({field_of(r, config) for r in relations.values()}))}",
            )
        found.append(wanted)
    return found


def field_of(relation: Relation, config: QueriesConfig) -> str:
    """What a relation's queries have as field of knowledge."""
    return relation.name if config.fields_are == "relation" else relation.field


@dataclass(frozen=True)
class Asking:
    """How facts become prompts.

    Attributes:
        config: The settings.
        by: "field" or "language".
        model: Gives its chat template.
        form: Form of asking.
        tries: Whether facts are kept for the choice of a form.
    """

    config: QueriesConfig
    by: str
    model: LanguageModel
    form: Form
    tries: bool = False

    def field(self, relation: Relation) -> str:
        """Field of a relation's queries: of knowledge, or their language."""
        return relation.language if self.by == "language" else field_of(relation, self.config)

    def part(self, relation: Relation) -> Apart[Fact]:
        """A relation's facts that are asked about, those shown, and those a form is chosen on."""
        # by fact: the same facts in all languages
        drawn = sorted(
            relation.facts, key=lambda fact: stable_number(self.config.seed, "asked", fact.id)
        )
        limit = self.config.per_field if self.by == "field" else self.config.per_language
        return set_apart(
            tuple(drawn),
            shows=self.form.has_shots,
            tries=self.tries,
            most=most_asked(self.config, limit),
        )

    def prompts(self, relation: Relation, shown: Mapping[str, Relation]) -> dict[str, list[Prompt]]:
        """Fact id -> its prompts (step 1)."""
        config = self.config
        suited = self.form.candidates(relation.wordings())
        rounds = -(-config.n_prompts // len(suited)) if self.form.has_shots else 1
        if rounds > 1:  # of few facts the same demonstrations may be drawn twice
            rounds += SPARE_ROUNDS
        by_place: dict[tuple[str, int, int], Prompt] = {}
        for turn in range(rounds):
            rendered = render_fact_prompts(
                relation,
                form=self.form.name,
                shots=config.shots,
                demonstrations=shown if self.form.has_shots else None,
                chat=self.model.chat,
                seed=config.seed + turn,
                role="query",
                every_wording=True,
            )
            for prompt in rendered:
                position = int(prompt.template.rpartition(".")[2])
                by_place[prompt.fact, position, turn] = prompt
        found = {}
        for fact in relation.facts:
            first = stable_number(config.seed, "wording", fact.id)
            listed: dict[str, Prompt] = {}
            for turn in range(rounds):
                for place in range(len(suited)):
                    prompt = by_place[fact.id, suited[(first + place) % len(suited)], turn]
                    listed.setdefault(prompt.text, prompt)
            found[fact.id] = list(listed.values())[: config.n_prompts]
        return found


def most_asked(config: QueriesConfig, limit: int | None) -> int | None:
    """Queries of a field to be asked so that `limit` of them may be known; None for all."""
    return config.n_asked or (None if limit is None else ASKED_PER_KEPT * limit)


def as_question(relation: Relation, fact: Fact, field: str, prompt: Prompt) -> Question:
    """A fact as a question whose options are the most frequent other objects of its relation."""
    wrong = [one for one in objects_of(relation) if one not in fact.objects]
    options = (fact.objects[0], *wrong[: MOST_OPTIONS - 1])
    start, stop = prompt.asked_span or (0, len(prompt.text))
    return Question(
        id=f"{fact.id}@{relation.language}",
        question=prompt.text[start:stop],
        options=options,
        answer=0,
        field=field,
        language=relation.language,
        labels=tuple(map(str, range(len(options)))),
        relation=relation.name,
    )


def objects_of(relation: Relation) -> list[str]:
    """First objects of all facts, the most frequent first."""
    counts = Counter(fact.objects[0] for fact in relation.facts)
    return [one for one, _ in counts.most_common()]


def _from_questions(
    config: QueriesConfig, by: str, model: LanguageModel, form: str, tries: bool, sample: bool
) -> WordQueries:
    drawn = replace(
        config,
        per_field=most_asked(config, config.per_field),
        per_language=most_asked(config, config.per_language),
    )
    asking = Form(form, config.shots, model.chat)
    apart = read_apart(drawn, by, shows=asking.has_shots, tries=tries)
    questions = apart.tried if sample else apart.asked
    if not questions:
        return WordQueries({}, {})
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for turn in range(config.n_prompts if asking.has_shots else 1):
        rendered = render_word_prompts(
            questions,
            form=form,
            shots=config.shots,
            demonstrations=apart.shown,
            chat=model.chat,
            seed=config.seed + turn,
            role="query",
        )
        for prompt in rendered:
            prompts[prompt.fact] = (*prompts.get(prompt.fact, ()), prompt)
    return WordQueries({question.id: question for question in questions}, prompts)
