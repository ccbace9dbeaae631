"""Attributions of many queries, streamed: what a method may need of each is kept, no more.

A portion of queries is attributed and stored together, so that an interrupted run goes on with
the next one. Dense attributions, a number per neuron and prompt, never stay in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from broca.attributions import (
    Attribution,
    attribute_answer_tokens,
    attribute_each,
    attribute_whole_answers,
)
from broca.choices import Letters, Words
from broca.model import LanguageModel
from broca.prompts import Prompt
from broca.scores import QuerySummary, Ranking, summarise_query
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.locating import Asked, has_contrast, locate_query, others_of

PORTION = 6  # queries attributed and stored together


@dataclass(frozen=True)
class PromptFigures:
    """What tells how far a prompt's attribution can be trusted.

    Attributes:
        prompt: The prompt's id.
        query: Its question.
        p: P of the target token, or of the whole answer (log P where letters are compared with
            answers in words).
        largest_change: Largest |P(1) - P(0)| over layers.
        completeness_error: Of the worst layer, as a share of the largest change.
        step_change: Of the worst neuron between two rules, as a share of the largest value.
        n_steps: Nodes spent.
        branches: Form of the computation.
        without_effect: Whether there was nothing to attribute.
        converged: Whether both figures are within their tolerance.
    """

    prompt: str
    query: str
    p: float
    largest_change: float
    completeness_error: float
    step_change: float
    n_steps: int
    branches: str
    without_effect: bool
    converged: bool


@dataclass(frozen=True)
class Attributed:
    """The attributions of one query, reduced.

    Attributes:
        summary: The neurons a method may choose.
        prompts: Figures of its prompts.
        tops: Each prompt's own neurons: the v of the largest attribution above t times the
            largest, before any are removed.
    """

    summary: QuerySummary
    prompts: tuple[PromptFigures, ...]
    tops: tuple[Ranking, ...] = ()


@dataclass(frozen=True)
class Portion:
    """Queries attributed together: question id -> its prompts, and the settings.

    Attributes:
        queries: Prompts with their letters or answers.
        free: Prompts without options, to compare letters with; then `queries` is empty.
        config: The settings.
        others: Prompts of all queries, that contrasting locators take as others.
    """

    queries: Mapping[str, Sequence[Asked]]
    free: Mapping[str, Prompt]
    config: QueriesConfig
    others: Sequence[Prompt] = ()

    @property
    def size(self) -> int:
        """Number of prompts."""
        return sum(map(len, self.queries.values())) + len(self.free)

    def determinants(self) -> dict[str, Any]:
        """All that determines the result, as plain values."""
        config = self.config
        asked = [
            [one.prompt.id, one.prompt.text, one.target]
            for listed in self.queries.values()
            for one in listed
        ]
        asked += [[p.id, p.text, list(p.answers)] for p in self.free.values()]
        names = ("site", "method", "n_steps", "path", "branches", "attribution_dtype")
        return {
            "attributed": asked,
            "kept": "clusters, and each prompt's own neurons",
            "scores": asdict(config.scores),
            **{name: getattr(config, name) for name in names},
            **(self._located() if self.queries and config.locators else {}),
        }

    def _located(self) -> dict[str, Any]:
        config = self.config
        return {
            "locators": list(config.locators),
            "prefilter": config.prefilter,
            "seed": config.seed,
            "others": [[prompt.id, prompt.text] for prompt in self.others],
        }


def portions(
    queries: Mapping[str, Sequence[Asked]], free: Mapping[str, Prompt], config: QueriesConfig
) -> list[Portion]:
    """Queries, or free-form prompts, in portions."""
    found = []
    others = others_of(queries) if has_contrast(config.locators) else ()
    for start in range(0, len(queries), PORTION):
        part = list(queries.items())[start : start + PORTION]
        found.append(Portion(dict(part), {}, config, others))
    for start in range(0, len(free), PORTION):
        found.append(Portion({}, dict(list(free.items())[start : start + PORTION]), config))
    return found


@dataclass(frozen=True)
class Attributing:
    """Computes a portion: all it needs is the model. The result is plain values."""

    model: LanguageModel

    def __call__(self, portion: Portion) -> dict[str, Any]:
        config = portion.config
        if portion.free:
            prompts = list(portion.free.values())
            each = attribute_answer_tokens(self.model, prompts, **options_of(config))
            counts = dict.fromkeys(portion.free, 1)
        else:
            asked = [one for listed in portion.queries.values() for one in listed]
            each = attribute_asked(self.model, asked, config)
            counts = {query: len(listed) for query, listed in portion.queries.items()}
        reduced = {query: _reduced(query, each, n, config) for query, n in counts.items()}
        for query, listed in portion.queries.items():
            reduced[query] |= self._located(listed, portion)
        return reduced

    def _located(self, asked: Sequence[Asked], portion: Portion) -> dict[str, Any]:
        found = locate_query(self.model, asked, portion.others, portion.config)
        return {"located": {name: _plain(ranking) for name, ranking in found.items()}}


def options_of(config: QueriesConfig) -> dict[str, Any]:
    """The settings of attribution."""
    return {
        "site": config.site,
        "n_steps": config.n_steps,
        "method": config.method,
        "path": config.path,
        "form": config.branches,
        "internal_batch_size": config.internal_batch_size,
        "dtype": config.attribution_dtype,
    }


def attribute_asked(
    model: LanguageModel, asked: Sequence[Asked], config: QueriesConfig
) -> Iterator[Attribution]:
    """Attributions of letters or of whole answers, all of one kind."""
    options, words = options_of(config), [one for one in asked if isinstance(one, Words)]
    if words:
        return attribute_whole_answers(
            model,
            [one.tokens for one in words],
            [one.target for one in words],
            ids=[one.prompt.id for one in words],
            **options,
        )
    letters = [one for one in asked if isinstance(one, Letters)]
    prompts, targets = [one.prompt for one in letters], [one.target for one in letters]
    return attribute_each(model, prompts, target=targets, **options)


def _reduced(
    query: str, each: Iterator[Attribution], n: int, config: QueriesConfig
) -> dict[str, Any]:
    found = [next(each) for _ in range(n)]
    summary = summarise_query(
        np.stack([one.values for one in found]),
        np.stack([one.activations for one in found]),
        config.scores,
    )
    assert summary.activation is not None
    rankings = {
        "cluster": summary.cluster,
        "knowledge": summary.knowledge,
        "activation": summary.activation,
    }
    return {
        **{name: _plain(ranking) for name, ranking in rankings.items()},
        "tops": [_plain(_top(one.values, config)) for one in found],
        "prompts": [asdict(_figures(query, one)) for one in found],
    }


def _plain(ranking: Ranking) -> list[list[Any]]:
    return [ranking.neurons.tolist(), ranking.scores.tolist()]


def _top(values: np.ndarray, config: QueriesConfig) -> Ranking:
    """A prompt's own neurons by its attributions [layer, neuron]."""
    flat = values.ravel().astype(np.float64)
    chosen = np.flatnonzero((flat > config.t * flat.max()) & (flat > 0))
    return Ranking(chosen, flat[chosen]).top(config.v)


def _figures(query: str, one: Attribution) -> PromptFigures:
    change = float(np.abs(one.probability - one.p_zero).max())
    return PromptFigures(
        prompt=one.prompt_id,
        query=query,
        p=float(one.probability),
        largest_change=change,
        completeness_error=float(one.completeness_error),
        step_change=float(one.step_change),
        n_steps=int(one.n_steps),
        branches=one.form,
        without_effect=bool(one.without_effect),
        converged=bool(one.converged),
    )


def read_attributed(plain: Mapping[str, Any]) -> dict[str, Attributed]:
    """What `Attributing` gave, as values."""
    return {
        query: Attributed(
            QuerySummary(
                _ranking(found["cluster"]),
                _ranking(found["knowledge"]),
                _ranking(found["activation"]),
                {name: _ranking(pair) for name, pair in found.get("located", {}).items()},
            ),
            tuple(PromptFigures(**figures) for figures in found["prompts"]),
            tuple(map(_ranking, found["tops"])),
        )
        for query, found in plain.items()
    }


def _ranking(pair: Sequence[Sequence[float]]) -> Ranking:
    return Ranking(np.array(pair[0], np.int64), np.array(pair[1], np.float64))
