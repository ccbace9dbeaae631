"""Attribution on the embedded model: parity, convergence and the error of single neurons."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.attributions import attribute_neurons, fixed_rule
from broca.facts import load_relations
from broca.model import LanguageModel
from broca.prompts import render_fact_prompts
from plain_loop import attribute as plain_loop

pytestmark = pytest.mark.slow
N_PROMPTS = 50


@pytest.fixture(scope="module")
def asked():
    model = LanguageModel.from_pretrained("atlas")
    prompts = render_fact_prompts(load_relations("atlas"))
    texts = [prompt.text for prompt in prompts[:: len(prompts) // N_PROMPTS]][:N_PROMPTS]
    tokens = model.encode(texts)
    targets = [int(model.probabilities([text])[0].argmax()) for text in texts]
    found = attribute_neurons(model, tokens, target=targets, progress=False)
    return model, tokens, targets, found


def test_equals_the_plain_loop(asked):
    model, tokens, targets, _ = asked
    found = attribute_neurons(
        model, tokens[:3], target=targets[:3], method="midpoint", n_steps=8, progress=False
    )
    rule = fixed_rule("midpoint", 8)
    for number in range(3):
        reference = plain_loop(model, tokens[number], targets[number], rule.nodes, rule.weights)
        error = (torch.tensor(found.values[number]) - reference).abs().max()
        assert error < 1e-4 * reference.abs().max()


def test_prompts_converge(asked):
    assert asked[-1].converged_share >= 0.9


def test_single_neurons_are_within_two_percent(asked):
    model, tokens, targets, found = asked
    exact = attribute_neurons(
        model, tokens, target=targets, method="gauss-legendre", n_steps=64, progress=False
    )
    error = np.abs(found.values - exact.values).max((1, 2)) / np.abs(exact.values).max((1, 2))
    assert error.max() <= 0.02
