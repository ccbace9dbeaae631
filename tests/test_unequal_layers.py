"""Layers of unequal width and layers without an MLP: no locator reads what is behind their ends."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from broca.effects import ablate_each, ablate_sets
from broca.errors import EffectError
from broca.locators import LOCATORS, locate
from broca.model import LanguageModel
from broca.model.families import build_tiny
from broca.neurons import Neuron, NeuronIndex, NeuronSet
from broca.prompts import Prompt
from tiny import TEXTS, tiny_module, tiny_tokenizer

PROMPTS = [Prompt(str(n), text, (" dog",), relation="r") for n, text in enumerate(TEXTS[:3])]
OTHERS = [Prompt(f"o{n}", text, ("x",), relation="s") for n, text in enumerate(TEXTS)]
CUT = {1: 20, 3: 33}  # neurons left of 48 in these layers
LEARNED = ("slimming", "hard-concrete")


@pytest.fixture(scope="module")
def twins() -> tuple[LanguageModel, LanguageModel]:
    """A model whose last neurons of two layers write nothing, and the same without them."""
    whole = tiny_module("llama")
    cut = copy.deepcopy(whole)
    for layer, width in CUT.items():
        with torch.no_grad():
            whole.model.layers[layer].mlp.down_proj.weight[:, width:] = 0
        mlp = cut.model.layers[layer].mlp
        for name in ("gate_proj", "up_proj"):
            part = getattr(mlp, name)
            part.weight = nn.Parameter(part.weight[:width].detach().clone())
            part.bias = nn.Parameter(part.bias[:width].detach().clone())
            part.out_features = width
        mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight[:, :width].detach().clone())
        mlp.down_proj.in_features = width
    return (
        LanguageModel(whole, tiny_tokenizer(), name="whole"),
        LanguageModel(cut, tiny_tokenizer(), name="cut"),
    )


@pytest.mark.parametrize("name", LOCATORS)
def test_a_locator_gives_narrow_layers_what_it_gives_wide_ones(twins, name):
    settings = {"n_steps": 6} if name in LEARNED else {}
    whole, cut = (locate(model, PROMPTS, name, others=OTHERS, **settings) for model in twins)
    there = np.ones(whole.values.shape[1:], bool)
    for layer, width in CUT.items():
        there[layer, width:] = False
    assert not cut.values[:, ~there].any()
    if name not in LEARNED:  # whose draws and shares are over all neurons
        largest = np.abs(whole.values).max()
        np.testing.assert_allclose(
            cut.values[:, there], whole.values[:, there], rtol=1e-4, atol=1e-5 * largest
        )
    ranking = cut.ranking(1)
    assert len(ranking) == there.sum() == len(set(ranking))
    for rank in (0, 7, len(ranking) - 1):
        neuron = list(ranking)[rank]
        assert ranking.scores[rank] == cut.of_prompt(1)[neuron.layer, neuron.index]
    best = cut.scores().top(5, name="best")
    _, layer, index = next(iter(best))
    mean = cut.values.mean(0)
    assert mean[layer, index] == mean[there].max()


@pytest.mark.parametrize("prefilter", [None, 0.2])
def test_effects_in_narrow_layers(twins, prefilter):
    whole, cut = (
        ablate_each(model, PROMPTS[:1], target=9, prefilter=prefilter, sample=0, progress=False)[0]
        for model in twins
    )
    both = cut.measured & whole.measured
    assert both.sum() > 0.15 * both.size
    np.testing.assert_allclose(cut.values[both], whole.values[both], atol=1e-5)
    for layer, width in CUT.items():
        assert np.isnan(cut.values[layer, width:]).all()
    assert cut.missed().count <= cut.values.size - (48 - 20) - (48 - 33) - cut.measured.sum()


def test_sets_with_narrow_layers(twins):
    whole, cut = twins
    chosen = [Neuron("hidden", 3, 32), Neuron("hidden", 1, 19), Neuron("hidden", 2, 47)]
    found = [
        ablate_sets(model, PROMPTS, NeuronSet.of(chosen, model.identity), [1, 2, 3], target=7)
        for model in (whole, cut)
    ]
    np.testing.assert_allclose(found[1].after, found[0].after, atol=1e-5)
    assert np.abs(found[1].after[:, 2] - found[1].before).min() > 1e-6


def test_arrays_and_lines(twins):
    index = NeuronIndex(twins[1].identity, ("hidden",))
    line = np.arange(2 * len(index)).reshape(2, -1)
    grid = index.as_grid(line, fill=-1)
    assert grid.shape == (2, 4, 48)
    assert (grid[:, 1, 20:] == -1).all()
    np.testing.assert_array_equal(index.of_grid(grid), line)


# ---- families: layers without an MLP, experts beside ordinary layers, Matformer widths


@pytest.fixture(scope="module", params=["nemotron_h", "deepseek_v3", "gemma3n_text", "olmoe"])
def model(request):
    return LanguageModel(build_tiny(request.param), tiny_tokenizer(), name=request.param)


@pytest.mark.parametrize("name", LOCATORS)
def test_every_locator_ranks_every_neuron_or_refuses(model, name):
    settings = {"n_steps": 3} if name in LEARNED else {}
    settings |= {"n_steps": 4} if name == "ig-16" else {}
    if name == "direct" and model.name != "nemotron_h":
        with pytest.raises(EffectError, match=r"writes more than its value vectors|cannot be read"):
            locate(model, PROMPTS[:2], name)
        return
    found = locate(model, PROMPTS[:2], name, others=OTHERS[2:], **settings)
    ranking = found.ranking(0)
    assert len(set(ranking)) == model.identity.total("hidden")
    assert len(np.unique(ranking.scores)) > 2


def test_exact_effects_equal_a_hook_and_a_pass(model):
    """Neurons of the largest effect and others, each by a whole pass with a hook."""
    tokens = model.encode([TEXTS[1]])[0]
    found = ablate_each(model, [tokens], target=9, progress=False)
    batch = model.pad([tokens])
    with torch.no_grad():
        before = float(model.logits(batch)[0, -1].log_softmax(-1)[9])
    order = found[0].order()
    places = NeuronIndex(model.identity, ("hidden",)).from_grid(order)
    chosen = NeuronIndex(model.identity, ("hidden",)).select(places)
    for rank in (0, 1, 2, 10, len(order) // 2, len(order) - 1):
        neuron = list(chosen)[rank]

        def off(values, neuron=neuron):
            new = values.clone()
            new[:, -1, neuron.index] = 0
            return new

        with torch.no_grad(), model.touch("hidden", neuron.layer, off):
            after = float(model.logits(batch)[0, -1].log_softmax(-1)[9])
        assert found[0].values[neuron.layer, neuron.index] == pytest.approx(
            after - before, abs=2e-5
        )


def test_gradients_are_the_slope_of_the_effect(model):
    """Of the neurons of the largest gradient: a small change, by whole passes."""
    tokens = model.encode([TEXTS[1]])[0]
    prompt = Prompt("p", TEXTS[1], ("x",))
    found = locate(model, [prompt], "gradient", target=9)
    batch, step = model.pad([tokens]), 1e-2
    for neuron in found.ranking(0, 4):
        place = (neuron.layer, neuron.index)
        read = []
        for sign in (1, -1):

            def move(values, neuron=neuron, sign=sign):
                new = values.clone()
                new[:, -1, neuron.index] += sign * step
                return new

            with torch.no_grad(), model.touch("hidden", neuron.layer, move):
                read.append(float(model.logits(batch)[0, -1].double().log_softmax(-1)[9]))
        slope = (read[0] - read[1]) / (2 * step)
        assert abs(slope) == pytest.approx(abs(found.values[0][place]), rel=0.05, abs=1e-3)
