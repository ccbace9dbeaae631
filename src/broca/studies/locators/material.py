"""What locator studies share: prompts the model knows, and every locator's numbers for them.

1. Facts are asked; of the prompts whose answer begins with the model's own likeliest token,
   `n_prompts` are taken, round by round over the relations (where it knows too few, those it gives
   most probability).
2. For contrasts, the first `n_group` prompts of the same relation are own, and `n_others` prompts
   spread over other relations are others. Other prompts also tell what should not be lost.
3. Each prompt is one unit of work: every locator, and all that its rankings are judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from broca.answers import BORDERS, answer_tokens
from broca.edits.weights import check_editable
from broca.effects.agreement import ranked
from broca.errors import RecipeError, StudyError
from broca.facts import load_relations
from broca.facts.seeding import stable_random
from broca.locators import Located, find_locator, locate
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.prompts import Prompt, render_fact_prompts
from broca.studies.locators.config import LocatorsConfig
from broca.studies.study import KeepingBench

_ASKED = 400  # prompts asked to find known ones, at most
_AT_ONCE = 32


@dataclass(frozen=True)
class Material:
    """Prompts for all locator studies.

    Attributes:
        config: The settings.
        prompts: Prompts that locators are judged on.
        groups: Relation -> its first prompts.
        others: Relation -> prompts of other relations.
        n_known: How many of `prompts` the model knows.
        asked: Relation -> all its prompts, in the order drawn.
    """

    config: LocatorsConfig
    prompts: Sequence[Prompt]
    groups: Mapping[str, Sequence[Prompt]]
    others: Mapping[str, Sequence[Prompt]]
    n_known: int
    asked: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)


def prepare(config: LocatorsConfig, bench: KeepingBench) -> Material:
    """Choose the prompts.

    Raises:
        EditError: The model is quantised: its value vectors can be neither read nor edited.
        FactsError: The facts cannot be used.
        StudyError: There are too few prompts.
        RecipeError: More neurons are asked for than the model has.
    """
    _check_numbers(config, bench.model.identity.total("hidden"))
    bench.keep("editable", require_editable, [({}, None)], quick=True)
    relations = load_relations(
        config.facts, language=config.language, relations=config.relations or None
    )
    form = config.form or "question"
    options: dict[str, Any] = {"form": form, "seed": config.seed}
    if form.startswith("few-shot"):
        options |= {"shots": config.shots, "demonstrations": relations}
    prompts = render_fact_prompts(relations, **options)
    stable_random(config.seed, "locators").shuffle(prompts)
    by_relation = {name: [p for p in prompts if p.relation == name] for name in relations}
    asked = round_by_round(by_relation)[:_ASKED]
    order = known_first(bench, asked, config.n_prompts)
    if len(asked) < config.n_prompts:
        raise StudyError(f"there are {len(asked)} prompts, {config.n_prompts} are needed")
    chosen = [asked[i] for i, _ in order[: config.n_prompts]]
    groups = {name: listed[: config.n_group] for name, listed in by_relation.items()}
    others = {
        name: round_by_round({n: p for n, p in by_relation.items() if n != name})[: config.n_others]
        for name in relations
    }
    n_known = sum(known for _, known in order[: config.n_prompts])
    return Material(config, chosen, groups, others, n_known, by_relation)


def _check_numbers(config: LocatorsConfig, n_neurons: int) -> None:
    """Refuse a number of neurons that no ranking holds; larger sizes beside one that does fall
    away."""
    asked = {"top": config.top, "sizes": min(config.sizes)}
    asked["relation_sizes"] = min(config.relation_sizes)
    for name, number in asked.items():
        if number > n_neurons:
            raise RecipeError(
                f"{number:,} neurons are asked for and the model has {n_neurons:,}",
                name,
                "Ask for fewer",
            )


def require_editable(model: LanguageModel, _: object) -> dict[str, Any]:
    """Refuse a model whose value vectors cannot be read or edited, where its weights are."""
    check_editable(model)
    return {}


def round_by_round(by_relation: Mapping[str, Sequence[Prompt]]) -> list[Prompt]:
    """The first prompt of every relation, then the second of every one, and so on."""
    longest = max(map(len, by_relation.values()), default=0)
    return [p[i] for i in range(longest) for p in by_relation.values() if i < len(p)]


def known_first(
    bench: KeepingBench, prompts: Sequence[Prompt], enough: int
) -> list[tuple[int, bool]]:
    """Numbers of prompts, known ones first in their order, then by probability; and if known.

    Stops asking once enough are known.
    """
    known: list[int] = []
    rest: list[tuple[float, int]] = []
    for start in range(0, len(prompts), _AT_ONCE):
        part = list(prompts[start : start + _AT_ONCE])
        texts = [[prompt.text, list(prompt.answers)] for prompt in part]
        (found,) = bench.keep("known", AskingFirsts(), [({"prompts": texts}, part)], quick=True)
        for number, (right, p) in enumerate(zip(found["right"], found["p"], strict=True), start):
            if right:
                known.append(number)
            else:
                rest.append((p, number))
        if len(known) >= enough:
            break
    rest.sort(key=lambda pair: -pair[0])
    return [(n, True) for n in known] + [(n, False) for _, n in rest]


@dataclass(frozen=True)
class AskingFirsts:
    """Whether each prompt's likeliest next token begins an answer, and the best such token's P."""

    batch_size: int = _AT_ONCE

    def __call__(self, model: LanguageModel, prompts: Sequence[Prompt]) -> dict[str, Any]:
        right, p = [], []
        for start in range(0, len(prompts), self.batch_size):
            part = prompts[start : start + self.batch_size]
            for first, probability in _firsts(model, part):
                right.append(first)
                p.append(probability)
        return {"right": right, "p": p}


@torch.no_grad()
def _firsts(model: LanguageModel, prompts: Sequence[Prompt]) -> list[tuple[bool, float]]:
    rows = model.probabilities([prompt.text for prompt in prompts])
    found = []
    for prompt, row in zip(prompts, rows, strict=True):
        firsts = {
            tokens[0]
            for answer in prompt.answers
            for border in BORDERS
            if (tokens := answer_tokens(model, prompt.text, answer, border))
        }
        p = max((float(row[token]) for token in firsts), default=0.0)
        found.append((int(row.argmax()) in firsts, p))
    return found


def locate_all(
    model: LanguageModel,
    config: LocatorsConfig,
    prompt: Prompt,
    group: Sequence[Prompt],
    others: Sequence[Prompt],
    skip: Sequence[str] = (),
    *,
    answer: Sequence[int],
    injected: bool = False,
) -> dict[str, Located]:
    """Every locator's numbers for one prompt and its answer's tokens; contrasting ones, which read
    no answer, take its group as own."""
    n_neurons = model.identity.total("hidden")
    found = {}
    for name in (name for name in config.locators if name not in skip):
        contrast = find_locator(name).contrast
        found[name] = locate(
            model,
            list(group) if contrast else [prompt],
            name,
            target=0 if contrast else [list(answer)],
            others=others if contrast else (),
            seed=config.seed,
            **config.settings_of(name, n_neurons, injected=injected),
        )
    return found


def without_gaps(model: LanguageModel, values: np.ndarray) -> np.ndarray:
    """Values [layer, neuron] with NaN behind the end of a layer that is narrower than others."""
    index = NeuronIndex(model.identity, ("hidden",))
    return index.as_grid(index.of_grid(values), fill=np.nan)


def recalls(
    values: np.ndarray, truth: np.ndarray, shares: Sequence[float]
) -> dict[str, list[float]]:
    """Share of true neurons among the first ones, over all layers and within each layer.

    Args:
        values: A locator's numbers, [layer, neuron]; NaN where there is no neuron.
        truth: Places of the true neurons in the flattened array.
        shares: Shares of the neurons looked at.
    """
    there, n = ~np.isnan(values), len(truth)
    wanted = np.zeros(values.shape, bool)
    wanted.flat[truth] = True
    found = wanted.flat[ranked(values)]
    inside = np.argsort(-values.astype(np.float64), axis=1, kind="stable")
    by_layer = np.take_along_axis(wanted, inside, 1)
    whole = [found[: max(1, round(s * there.sum()))].sum() for s in shares]
    layers = [
        sum(
            row[: max(1, round(s * width))].sum()
            for row, width in zip(by_layer, there.sum(1), strict=True)
            if width
        )
        for s in shares
    ]
    return {"global": [float(x) / n for x in whole], "layer": [float(x) / n for x in layers]}
