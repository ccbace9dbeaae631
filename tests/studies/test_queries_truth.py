"""Attributions against the truth: single and joint effects equal plain interventions."""

from __future__ import annotations

import numpy as np
import pytest

from broca.choices import Words, find_letters, find_words
from broca.estimates import judge_agreement
from broca.interventions import Deactivate, Scale, intervene
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt
from broca.studies.queries.truth import (
    exact_effects,
    joint_effect,
    targets_of,
)
from planted_run import PlantedRun
from tiny import tiny_model


def test_single_and_joint_effects_of_a_whole_answer_equal_interventions() -> None:
    model = tiny_model("llama")
    prompt = Prompt(id="p", text="the quick brown fox", answers=("dog four seven",))
    (words,) = find_words(model, [prompt])
    assert isinstance(words, Words)
    targets = targets_of(words)
    assert len(targets) == len(words.target) > 1
    index = NeuronIndex(model.identity, ("hidden",))
    neurons = uniform_random(index, 9, 0, name="nine")

    def log_p(edit: Scale | None) -> float:
        total = 0.0
        for tokens, token in targets:
            with intervene(model, edit):
                logits = model.logits(model.pad([tokens]))[0, -1]
            total += float(logits.double().log_softmax(-1)[token])
        return total

    before = log_p(None)
    exact = exact_effects(model, targets, None)
    for neuron in list(neurons)[:3]:
        alone = neurons.take(np.array([list(neurons).index(neuron)]), name="one")
        change = log_p(Deactivate(alone, "last")) - before
        assert exact[neuron.layer, neuron.index] == pytest.approx(change, abs=1e-4)
    joint = np.exp(log_p(Deactivate(neurons, "last")) - before) - 1
    assert joint_effect(model, targets, neurons) == pytest.approx(joint, abs=1e-4)


def test_attributions_of_the_planted_model_find_what_was_planted(planted_run: PlantedRun) -> None:
    (mean,) = planted_run.table("truth", "agreement")
    prompts = planted_run.table("truth", "prompts")
    assert (mean["n"], len(prompts)) == (2, 2)
    assert mean["verdict"] == "cannot tell"  # two prompts have no interval
    assert mean["joint_attribution"] < -0.5
    assert abs(mean["joint_random"]) < 0.2
    for record in prompts:
        assert record["measured"] == 1.0
    asked = next(p for p in planted_run.prompts if p.fact == prompts[0]["query"])
    (letters,) = find_letters(planted_run.model, [asked])
    own = planted_run.sets.neurons(prompts[0]["query"])
    with intervene(planted_run.model, Scale(own, 0.0, "last")):
        p = float(planted_run.model.probabilities([asked.text])[0][letters.target])
    assert prompts[0]["own_joint"] == pytest.approx(p / letters.p - 1, abs=5e-4)
    page = planted_run.page
    assert "Do attributions tell what neurons do?" in page


@pytest.mark.parametrize(
    ("spearman", "recall", "verdict"),
    [
        ((0.6, 0.9), (0.55, 0.8), "yes"),
        ((0.6, 0.9), (0.3, 0.8), "in part"),
        ((0.3, 0.9), (0.3, 0.8), "not shown"),
        ((0.1, 0.4), (0.1, 0.45), "no"),
        ((float("nan"), 0.4), (0.1, 0.45), "cannot tell"),
    ],
)
def test_the_verdict_needs_both(
    spearman: tuple[float, float], recall: tuple[float, float], verdict: str
) -> None:
    assert judge_agreement(spearman, recall) == verdict
