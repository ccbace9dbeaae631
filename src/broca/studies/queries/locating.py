"""Locators as methods of query studies: a query's neurons by any of them.

1. A locator gives every hidden neuron a number for each prompt's letter or whole answer; learned
   masks are one for all prompts of the query.
2. The v neurons of the highest mean over the prompts are kept; of these a study takes as many as
   NA-ICA found.
3. Contrasting locators hold the query's prompts against those of other queries.

Locators read log P, where attributions are those of P: within a prompt the order is the same, in
means over prompts sure answers weigh more in attributions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.choices import Letters, Words
from broca.locators import find_locator, locate
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.prompts import Prompt
from broca.scores import Ranking
from broca.studies.queries.config import QueriesConfig

Asked = Letters | Words
"""A prompt with the tokens of its answer."""

_MOST_OTHERS = 48
_MASK_SHARE = 0.01  # of the neurons: budget of a mask, where v is not more


def has_contrast(locators: Sequence[str]) -> bool:
    """Whether one of them needs prompts of other queries."""
    return any(find_locator(name).contrast for name in locators)


def others_of(queries: Mapping[str, Sequence[Asked]]) -> tuple[Prompt, ...]:
    """The first prompts of queries spread evenly over all of them."""
    firsts = [listed[0].prompt for listed in queries.values()]
    n = min(len(firsts), _MOST_OTHERS)
    return tuple(firsts[number * len(firsts) // n] for number in range(n))


def locate_query(
    model: LanguageModel,
    asked: Sequence[Asked],
    others: Sequence[Prompt],
    config: QueriesConfig,
) -> dict[str, Ranking]:
    """The v best neurons of one query by each locator of the settings.

    Raises:
        EffectError: Effects of single neurons cannot be measured in the model.
    """
    prompts = [one.prompt for one in asked]
    targets = [[one.target] if isinstance(one, Letters) else list(one.target) for one in asked]
    apart = [prompt for prompt in others if prompt.fact != prompts[0].fact]
    index, places = NeuronIndex(model.identity, ("hidden",)), model.identity.positions("hidden")
    found = {}
    for name in config.locators:
        located = locate(
            model,
            prompts,
            name,
            target=targets,
            others=apart if find_locator(name).contrast else (),
            seed=config.seed,
            **_settings(name, config, model),
        )
        best = Ranking.highest(index.of_grid(located.mean()), config.v)
        found[name] = Ranking(places[best.neurons], best.scores)
    return found


def _settings(name: str, config: QueriesConfig, model: LanguageModel) -> dict[str, Any]:
    if find_locator(name).learned:
        n_neurons = model.identity.total("hidden")
        return {"shared": True, "budget": max(config.v, round(_MASK_SHARE * n_neurons))}
    return {"prefilter": config.prefilter} if name in ("exact", "direct") else {}
