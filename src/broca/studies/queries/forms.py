"""Which form of asking a model answers in: measured, where the settings say "auto" (METHODS §9).

1. A sample of facts, drawn by another seed, is asked in every form, one prompt each.
2. The form with most right answers is taken; of equal ones the first in the order of `FORMS`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from broca.errors import PromptError
from broca.prompts import FORMS
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.facts import read_word_queries

SAMPLE = 48  # prompts asked in every form
SEED = 104_729  # away from the seeds of studies


@dataclass(frozen=True)
class Tried:
    """One form on the sample.

    Attributes:
        form: The form.
        n: Prompts asked.
        accuracy: Share of right answers; None where it cannot be asked.
        reason: Why it cannot.
        examples: What was answered to the first ones.
    """

    form: str
    n: int
    accuracy: float | None
    reason: str = ""
    examples: tuple[str, ...] = ()


def choose_form(config: QueriesConfig, by: str, bench: Any) -> tuple[str, list[Tried]]:
    """The form to ask in, and what was tried.

    Raises:
        PromptError: No form can be asked.
    """
    form = config.form or ("question" if bench.model.is_embedded else "auto")
    if form != "auto":
        return form, []
    tried = [_try(config, by, bench, form) for form in FORMS]
    usable = [one for one in tried if one.accuracy is not None]
    if not usable:
        raise PromptError("no form of asking fits", mend=tried[0].reason)
    best = max(usable, key=lambda one: one.accuracy or 0.0)
    return best.form, tried


def _try(config: QueriesConfig, by: str, bench: Any, form: str) -> Tried:
    seed = (config.seed + SEED) % 2**32
    drawn = replace(config, n_prompts=1, seed=seed, form=form)
    try:
        read = read_word_queries(drawn, by, bench.model, form)
    except PromptError as error:
        return Tried(form, 0, None, str(error))
    queries = list(read.prompts)
    step = max(1, -(-len(queries) // SAMPLE))
    prompts = [prompt for query in queries[::step] for prompt in read.prompts[query]]
    found = bench.find_words(prompts)
    right = [one.correct for one in found]
    examples = tuple(f"{one.prompt.answers[0]}: {one.said}" for one in found[:3])
    return Tried(form, len(found), float(np.mean(right)), "", examples)
