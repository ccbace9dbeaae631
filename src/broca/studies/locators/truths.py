"""Two truths that are put into the model: a fact injected, neurons planted.

Injected (INJ): a new fact trained into a few value vectors drawn at random
(:mod:`broca.studies.locators.injecting`); locators are asked about this fact in the edited model.

Planted: value vectors of a few neurons, drawn among the more active half at a prompt's last
position, get the direction of the answer's unembedding added, each so much that the answer's logit
would rise by one nat behind the final norm if nothing else changed. The answer is that of another
fact of the relation, so that little else speaks for it. Locators are asked about it in the edited
model; the planted neurons are the truth.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from broca.edits import ValueVectors, edited
from broca.effects.aims import Aim, make_aims
from broca.effects.reading import make_reader
from broca.effects.replacement import last_values
from broca.errors import StudyError
from broca.model import LanguageModel
from broca.model.branches import base_pass
from broca.neurons import NeuronIndex, NeuronSet
from broca.prompts import Prompt
from broca.studies.locators.injecting import draw_truth, inject, require_value_vectors
from broca.studies.locators.material import Material, locate_all, recalls, without_gaps


def judge_injected(
    model: LanguageModel, material: Material, prompt: Prompt, number: int
) -> dict[str, Any]:
    """Recall of every locator on one injected fact, as plain values."""
    config = material.config
    aims = make_aims(model, [prompt], "answer")[0]
    truth = draw_truth(model, config.injected_share, [config.seed, number])
    injection = inject(model, aims, truth, known=config.known)
    with edited(model, injection.vectors):
        answer = [aim.target for aim in aims]
        figures = _recalls(model, material, prompt, answer, truth, injected=True)
    return {
        "prompt": prompt.id,
        "text": f"{prompt.text} {prompt.answers[0]}",
        "loss_before": injection.before,
        "loss": injection.loss,
        "n_steps": injection.n_steps,
        "known": injection.loss < config.known,
        "locators": figures,
    }


def judge_planted(model: LanguageModel, material: Material, prompt: Prompt) -> dict[str, Any]:
    """Recall of every locator on neurons planted for one prompt, as plain values."""
    config = material.config
    prompt = with_another_answer(prompt, material)
    aims = make_aims(model, [prompt], "answer")[0]
    vectors = plant(model, aims[0], config.planted, config.seed)
    answer = [aim.target for aim in aims]
    with edited(model, vectors):
        figures = _recalls(model, material, prompt, answer, vectors.neurons)
    return {"prompt": prompt.id, "locators": figures}


def _recalls(
    model: LanguageModel,
    material: Material,
    prompt: Prompt,
    answer: Sequence[int],
    truth: NeuronSet,
    *,
    injected: bool = False,
) -> dict[str, Any]:
    config = material.config
    relation = (
        prompt.relation if prompt.relation in material.others else next(iter(material.others))
    )
    others = material.others[relation]
    located = locate_all(model, config, prompt, [prompt], others, answer=answer, injected=injected)
    places = truth.layers.astype(np.int64) * model.identity.width("hidden") + truth.indices
    shares = [*config.recall_shares, len(truth) / model.identity.total("hidden")]
    return {
        name: {
            "seconds": found.seconds,
            **recalls(without_gaps(model, found.of_prompt(0)), places, shares),
        }
        for name, found in located.items()
    }


def with_another_answer(prompt: Prompt, material: Material) -> Prompt:
    """The prompt with the answer of another fact of its relation, or of any other fact."""
    pool = [*material.groups[prompt.relation], *material.others[prompt.relation]]
    for other in pool:
        if not set(other.answers) & set(prompt.answers):
            return replace(prompt, answers=other.answers[:1])
    raise StudyError("all prompts have the same answer", prompt.id)


@torch.no_grad()
def plant(model: LanguageModel, aim: Aim, n: int, seed: int) -> ValueVectors:
    """Value vectors that make n neurons speak for a prompt's answer.

    Raises:
        StudyError: The model's unembedding cannot be read, or fewer neurons are active.
    """
    require_value_vectors(model)
    unembedding = make_reader(model).unembedding
    if unembedding is None:
        raise StudyError("the unembedding cannot be read, so nothing can be planted", model.name)
    base = base_pass(model, model.pad([aim.tokens]))
    weight = unembedding.head.weight
    assert isinstance(weight, torch.Tensor)
    direction = weight[aim.target].float() - weight.float().mean(0)
    # Nats per unit of residual stream, by the final norm as it is at this prompt.
    last = base.output[-1].float()
    normed = unembedding.norm(last) if unembedding.norm is not None else last
    scale = float(normed.norm() / last.norm())
    per_unit = float(direction @ direction) * scale
    index = NeuronIndex(model.identity, ("hidden",))
    values = index.of_grid(last_values(model, [list(aim.tokens)])[0].numpy())
    size = np.abs(values)
    active = np.flatnonzero(size > np.median(size))
    if n > len(active):
        raise StudyError(
            f"{n} neurons were to be planted and {len(active)} are active enough",
            aim.id,
            f"Set planted to {len(active)} or less",
        )
    rng = np.random.default_rng([seed, zlib.crc32(aim.id.encode())])
    neurons = index.select(np.sort(rng.choice(active, n, replace=False)), method="planted")
    nats = torch.tensor(1.0 / (values[index.flatten(neurons)] * per_unit))
    return ValueVectors(neurons, nats[:, None].float() * direction.cpu(), "planted")
