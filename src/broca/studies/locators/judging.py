"""One prompt, judged: every locator against exact effects, joint effects and deletion.

1. Every hidden neuron's exact effect at the last position is the truth of single neurons.
2. Agreement: Spearman and Pearson with the loss, over all neurons and layer by layer, and the share
   of the `top` neurons of the largest loss found among the locator's first `top`.
3. Joint effect: P of the answer left with the locator's first k neurons replaced by 0 together, own
   prompt and a prompt of another relation.
4. Deletion: the first `deleted` of each layer off at every position; what own answer, other
   relations' answers and plain text lose.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from broca.effects import ablate_each, ablate_sets
from broca.effects.agreement import agreement, ranked
from broca.effects.aims import make_aims
from broca.interventions import Deactivate, intervene
from broca.locators import Located
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet
from broca.prompts import Prompt
from broca.studies.locators.answering import measure_answers
from broca.studies.locators.config import LocatorsConfig
from broca.studies.locators.material import Material, locate_all, without_gaps

TEXTS = (
    "The train was late again, so we sat in the small cafe by the station and drank tea.",
    "She opened the window, looked at the garden and thought about what he had said.",
    "In winter the days are short and the nights are long and cold.",
    "He bought bread, cheese and apples at the market and walked home along the river.",
)
SCATTER = 400  # neurons shown of one prompt


def judge(model: LanguageModel, material: Material, number: int) -> dict[str, Any]:
    """All figures of one prompt, as plain values."""
    config, prompt = material.config, material.prompts[number]
    others = material.others[prompt.relation]
    start = time.process_time()
    exact = ablate_each(model, [prompt], prefilter=config.prefilter, progress=False)
    loss, seconds = -exact[0].values, time.process_time() - start
    group, answer = material.groups[prompt.relation], list(exact[0].target)
    located = locate_all(model, config, prompt, group, others, skip=("exact",), answer=answer)
    if "exact" in config.locators:
        located["exact"] = _as_located(model, loss, seconds, config)
    other = others[number % len(others)]
    joint = _Joint(model, config, prompt, answer, other)
    deletion = _Deletion(model, config, prompt, others)
    figures = {}
    for name, found in located.items():
        values = without_gaps(model, found.of_prompt(0))
        figures[name] = {
            "seconds": found.seconds,
            **agreement(values, loss, config.top),
            **joint.of(values),
            **deletion.of(values),
        }
    return {
        "prompt": prompt.id,
        "relation": prompt.relation,
        "other": other.id,
        "locators": figures,
        "scatter": _scatter(located, loss) if number == 0 else [],
    }


def _as_located(
    model: LanguageModel, loss: np.ndarray, seconds: float, config: LocatorsConfig
) -> Located:
    """Exact losses as a locator's numbers; what a prefilter left out comes last."""
    filled = np.nan_to_num(loss, nan=float(np.nanmin(loss)) - 1.0)
    settings = {"replacement": "zero", "prefilter": config.prefilter}
    return Located(filled[None], model.identity, "exact", settings, seconds)


class _Joint:
    """What is left of the own answer and of another without a ranking's first neurons."""

    def __init__(
        self,
        model: LanguageModel,
        config: LocatorsConfig,
        own: Prompt,
        answer: list[int],
        other: Prompt,
    ) -> None:
        self.model, self.prompts = model, [own, other]
        (elsewhere,) = make_aims(model, [other], "answer")
        self.answers = [answer, [aim.target for aim in elsewhere]]
        self.index = NeuronIndex(model.identity, ("hidden",))
        self.sizes = [size for size in config.sizes if size <= len(self.index)]

    def of(self, values: np.ndarray) -> dict[str, Any]:
        """By a locator's values, [layer, neuron]."""
        index = self.index
        ranking = index.select(index.from_grid(ranked(values)[: self.sizes[-1]]))
        found = ablate_sets(self.model, self.prompts, ranking, self.sizes, target=self.answers)
        left, area = found.share_left, found.area
        return {
            "left_own": left[0].tolist(),
            "left_other": left[1].tolist(),
            "area_own": float(area[0]),
            "area_other": float(area[1]),
        }


class _Deletion:
    """What own answer, others' and plain text lose without the first neurons of each layer."""

    def __init__(
        self, model: LanguageModel, config: LocatorsConfig, own: Prompt, others: Sequence[Prompt]
    ) -> None:
        self.model, self.shares = model, config.deleted
        if self.shares:
            self.aims = make_aims(model, [own, *others[:4]], "answer")
            self.before, self.text = measure_answers(model, self.aims).p, _text_loss(model)

    def of(self, values: np.ndarray) -> dict[str, Any]:
        """By a locator's values, [layer, neuron]."""
        lost: dict[str, list[float]] = {"deleted_own": [], "deleted_other": [], "deleted_text": []}
        for share in self.shares:
            with intervene(self.model, Deactivate(_per_layer(self.model, values, share))):
                gone = 1 - measure_answers(self.model, self.aims).p / self.before
                lost["deleted_text"].append(_text_loss(self.model) - self.text)
            lost["deleted_own"].append(float(gone[0]))
            lost["deleted_other"].append(float(np.mean(gone[1:])))
        return lost


def _per_layer(model: LanguageModel, values: np.ndarray, share: float) -> NeuronSet:
    """The first share of each layer, at least one neuron of it."""
    index = NeuronIndex(model.identity, ("hidden",))
    order = np.argsort(-values.astype(np.float64), axis=1, kind="stable")
    first = [
        order[layer, : max(1, round(share * (place.stop - place.start)))] + place.start
        for _, layer, place in index.blocks()
    ]
    return index.select(np.concatenate(first))


@torch.no_grad()
def _text_loss(model: LanguageModel) -> float:
    """Mean -log P of the tokens of plain sentences."""
    total, count = 0.0, 0
    for tokens in model.encode(TEXTS):
        logits = model.logits(model.pad([tokens]), logits_to_keep=len(tokens))[0, :-1]
        log_p = logits.double().log_softmax(-1)
        total -= float(log_p[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])].sum())
        count += len(tokens) - 1
    return total / count


def _scatter(located: dict[str, Located], loss: np.ndarray) -> list[dict[str, Any]]:
    """Neurons of one prompt: half of them those of the largest effect, the rest at random."""
    flat = np.abs(np.nan_to_num(loss)).ravel()
    first = np.argsort(-flat, kind="stable")[: SCATTER // 2]
    rest = np.setdiff1d(np.arange(len(flat)), first)
    drawn = np.random.default_rng(0).choice(rest, min(SCATTER // 2, len(rest)), replace=False)
    width = loss.shape[1]
    rows = []
    for flat_index in [*first.tolist(), *drawn.tolist()]:
        layer, neuron = divmod(int(flat_index), width)
        if np.isnan(loss[layer, neuron]):
            continue
        numbers = {name: float(one.of_prompt(0)[layer, neuron]) for name, one in located.items()}
        rows.append(
            {"layer": layer, "index": neuron, "loss": float(loss[layer, neuron]), **numbers}
        )
    return rows
