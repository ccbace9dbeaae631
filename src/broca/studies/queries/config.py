"""The settings all query studies share; their names are those of recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from broca.errors import RecipeError, known_names
from broca.locators import LOCATORS
from broca.prompts.forms import check_form
from broca.questions.which import AnswerKind
from broca.scores import QUERY_METHODS, QueryScoreConfig
from broca.settings import Count, CountFrom0, CountFrom2, Draws, Seed, Share, check_settings
from broca.studies.replacing import Kind

LOCATOR_METHODS = tuple(name for name in LOCATORS if name not in QUERY_METHODS)
"""Locators that choose a query's neurons."""

Method = Literal["auto", "riemann-right", "riemann-linspace", "midpoint", "gauss-legendre"]
NormPath = Literal["frozen-norm", "raw"]
Branches = Literal["auto", "wavefront", "packed", "rows", "whole"]
Precision = Literal["float32", "tf32", "float64", "bfloat16", "float16"]


@dataclass(frozen=True)
class QueriesConfig:
    """How questions become prompts, prompts attributions, and these neurons (METHODS §3).

    Attributes:
        answer: What a query's answer is: "letters" (a question with options, the paper's proxy),
            "words" (a fact or question asked without options; the whole answer is measured, and
            right where greedy decoding says all of it), or "auto": letters where the model
            chooses them above chance, else words.
        facts: What is asked in words: "auto" (the file of `questions` where one is named, else
            atlas's facts for atlas and LRE's for every other model), "questions" (those, without
            their options), or whatever `broca.load_relations` reads.
        fields_are: What the fields of facts are: each "relation", or its "domain".
        form: Form of asking: "question", "cloze", "few-shot", "few-shot-other", "chat", a text
            with `{wording}`, or "auto": the one with most right answers on facts or questions
            kept for this alone. By default "auto" in words, and "question" for the embedded model
            and with letters, where it is the question as it stands.
        shots: Demonstrations of the few-shot forms, drawn from facts or questions kept for them.
        n_asked: Facts per field and language that the model is asked to find what it knows; three
            times `per_field` by default, all where that is open.
        only_right: Only queries that the model answers rightly in all of their prompts. By
            default so in words, and all queries with letters.
        min_right: A field with fewer queries left is left out.
        max_fields: Fields at most, those with the largest share of right answers.
        questions: "atlas" or "lre" (questions about these facts), "auto" (the one that suits the
            model), or a file that `broca.load_questions` reads.
        columns: Our column name -> the file's, for tables with other names.
        answer_kind: How a table gives the answer; see `broca.load_questions`.
        fields: Only these fields of knowledge (or relations); all by default.
        languages: Only these. "queries.languages" takes all of them, the other studies the
            first one. By default those of the file in its order; English for "atlas".
        per_field: Questions per field and language at most.
        per_language: Questions per language at most in "queries.languages".
        n_options: Options of questions that have none yet.
        distractors: For "atlas": wrong options of the same "relation" or the same "subject".
        redraw: Every prompt of a question without options draws its own wrong ones.
        n_prompts: Prompts per question.
        chat_template: With letters the same as form = "chat".
        letter: The token measured: the "bare" letter, the letter with a "space", or "auto":
            the one the model gives more probability.
        site: Site of the neurons.
        method: Rule of integration; see `broca.attribute_neurons`.
        n_steps: Nodes of the rule.
        path: Path over a norm behind the MLP; see `broca.attribute_neurons`.
        branches: Form of the computation; see `broca.attribute_neurons`.
        internal_batch_size: Branch rows at once.
        attribution_dtype: Precision of attributions; "tf32" is float32 whose products a GPU may
            round, see `broca.attribute_neurons`.
        t: A neuron enters a cluster above this share of the largest attribution.
        u: A neuron in more than this share of the clusters is common.
        v: Neurons per query before common ones are removed.
        variant: "paper", or "released-code" with its quirks.
        methods: Ways to choose a query's neurons; see `broca.scores.QUERY_METHODS`. Further ones
            are locators, such as "exact" (`broca.locators.LOCATORS`; "activation" and "random"
            are this study's own).
        prefilter: Share of the neurons whose exact effect, and direct increase, is measured; all
            by default.
        boost: Factor of the boost.
        suppress: Factor of the suppression.
        positions: Where neurons are scaled: "answer", wherever a token of the answer is read (with
            letters the last position, as in the paper); "options", the lines of the options; or
            "all" positions of the prompt.
        replacement: What is put in the place of suppressed neurons: "zero" (the paper), the "mean"
            over all queries' prompts, or a "resample" (`broca.studies.replacing`).
        n_unrelated: Queries of every other field that each set is tried on.
        n_same: Queries of the same field, with other answers, that each set is tried on.
        n_matched: Matched random sets per query and method, tried on the query's own prompts.
        n_active: Random sets per query matched by activity as well, in "queries.replacement".
        n_truth: Prompts whose attributions are held against what their neurons do.
        n_free_form: Queries also asked without options, to compare with the proxy; 0 for none.
        map_bins: Bins of the neuron index in the maps of "queries.localisation".
        seed: Of everything that is drawn.
        smallest_share: Smallest effect of interest, a share of P: below it no verdict is "yes".
        n_permutations: Sign patterns and shuffles of the permutation tests.
        n_resamples: Resamples of the bootstrap.
        alpha: Level of significance after Holm's correction.
        batch_size: Rows per pass.

    Raises:
        RecipeError: A number is out of its range or a method unknown.
        ScoreError: t, u or v is out of its range.
    """

    answer: Literal["letters", "words", "auto"] = "letters"
    facts: str = "auto"
    fields_are: Literal["relation", "domain"] = "relation"
    form: str | None = None
    shots: Count = 4
    n_asked: Count | None = None
    only_right: bool | None = None
    min_right: Count = 3
    max_fields: Count | None = None
    questions: str = "atlas"
    columns: dict[str, str | list[str]] | None = None
    answer_kind: AnswerKind = "auto"
    fields: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    per_field: Count | None = None
    per_language: Count | None = None
    n_options: Annotated[int, Field(ge=2, le=26)] = 4
    distractors: Literal["relation", "subject"] = "relation"
    redraw: bool = False
    n_prompts: Count = 3
    chat_template: bool = False
    letter: Literal["auto", "bare", "space"] = "auto"
    site: Literal["hidden", "up"] = "hidden"
    method: Method = "auto"
    n_steps: Count | None = None
    path: NormPath = "frozen-norm"
    branches: Branches = "auto"
    internal_batch_size: Count | None = None
    attribution_dtype: Precision = "float32"
    t: Annotated[float, Field(ge=0, lt=1)] = 0.2
    u: Annotated[float, Field(gt=0, le=1)] = 0.3
    v: Count = 20
    variant: Literal["paper", "released-code"] = "paper"
    methods: tuple[str, ...] = QUERY_METHODS
    prefilter: Annotated[float, Field(gt=0, le=1)] | None = None
    boost: Annotated[float, Field(gt=1)] = 2.0
    suppress: Annotated[float, Field(lt=1)] = 0.0
    positions: Literal["answer", "options", "all"] = "answer"
    replacement: Kind = "zero"
    n_unrelated: Count = 10
    n_same: CountFrom0 = 10
    n_matched: CountFrom0 = 5
    n_active: CountFrom0 = 5
    n_truth: Count = 12
    n_free_form: CountFrom0 = 24
    map_bins: Count = 64
    seed: Seed = 0
    smallest_share: Share = 0.05
    n_permutations: Draws = 10_000
    n_resamples: Draws = 2000
    alpha: Share = 0.05
    batch_size: CountFrom2 = 256

    def __post_init__(self) -> None:
        check_settings(self)
        unknown = [m for m in self.methods if m not in (*QUERY_METHODS, *LOCATOR_METHODS)]
        if unknown:
            raise RecipeError(
                f"there is no method {unknown[0]!r}",
                "methods",
                known_names(unknown[0], (*QUERY_METHODS, *LOCATOR_METHODS)),
            )
        if "na-ica" not in self.methods:
            raise RecipeError(
                "the method na-ica is missing",
                "methods",
                "Add it: it is what the others are compared with",
            )
        if self.locators and self.site != "hidden":
            raise RecipeError(
                f"{self.locators[0]} ranks hidden neurons", f"site = {self.site}", 'Use "hidden"'
            )
        if self.form not in (None, "auto"):
            check_form(self.form)
        if self.chat_template and self.form not in (None, "chat"):
            raise RecipeError(
                "chat_template asks in another form than form does",
                f"form = {self.form!r}",
                'Leave one of them out: chat_template is form = "chat" for letters',
            )
        _ = self.scores
        if self.replacement != "zero" and self.suppress != 0:
            raise RecipeError(
                "neurons are either scaled or replaced",
                f"suppress = {self.suppress:g} with replacement = {self.replacement!r}",
                'Leave suppress at 0, or replacement at "zero"',
            )
        if self.positions == "options" and self.answer == "words":
            raise RecipeError(
                "answers in words have no lines of options",
                'positions = "options"',
                'Use answer = "letters", or positions "answer" or "all"',
            )

    @property
    def scores(self) -> QueryScoreConfig:
        """The settings of NA-ICA."""
        return QueryScoreConfig(self.t, self.u, self.v, self.variant)

    @property
    def locators(self) -> tuple[str, ...]:
        """The methods that are locators."""
        return tuple(name for name in self.methods if name not in QUERY_METHODS)

    @property
    def actions(self) -> dict[str, float]:
        """Action -> its factor."""
        return {"boost": self.boost, "suppress": self.suppress}
