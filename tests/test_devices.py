"""A model spread over devices by accelerate's hooks is the model; weights kept elsewhere are told.

Where no GPU is at hand, every layer is sent "elsewhere" by hooks that move its inputs to the
device it is on, which is the CPU again: the forward passes are those of a spread model, the moves
are not. With a GPU, half of the layers are on it.
"""

from __future__ import annotations

from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch

from broca.attributions import attribute_neurons
from broca.effects import ablate_each
from broca.errors import ModelError
from broca.interventions import Deactivate
from broca.locators import locate
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.model.families import build_tiny
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt
from broca.responses import record_responses
from tiny import TEXTS, tiny_tokenizer

PROMPTS = [Prompt(id=str(n), text=text, answers=(" dog",)) for n, text in enumerate(TEXTS)]
OTHER = "cuda" if torch.cuda.is_available() else "cpu"


def spread_model(family: str, layers_elsewhere: list[int]) -> LanguageModel:
    module = build_tiny(family)
    places = {name: "cpu" for name, _ in module.model.named_children() if name != "layers"}
    places |= {str(n): OTHER if n in layers_elsewhere else "cpu" for n in range(4)}
    device_map = {
        **{f"model.layers.{n}" if n.isdigit() else f"model.{n}": d for n, d in places.items()},
        "lm_head": "cpu",
    }
    accelerate.dispatch_model(module, device_map, main_device="cpu", force_hooks=True)
    assert hasattr(module.model.layers[1], "_hf_hook")
    return LanguageModel(module, tiny_tokenizer(), name=family)


@pytest.fixture(scope="module", params=["llama", "gemma2", "qwen2_moe", "llama4_text"])
def both(request) -> tuple[LanguageModel, LanguageModel]:
    one = LanguageModel(build_tiny(request.param), tiny_tokenizer(), name=request.param)
    return one, spread_model(request.param, [1, 3])


def test_it_is_the_same_model(both):
    one, spread = both
    assert one.identity == spread.identity
    assert one.sites == spread.sites


def test_answers_and_deactivation(both):
    found = []
    for model in both:
        off = Deactivate(uniform_random(NeuronIndex(model.identity, ("hidden",)), 30, 0))
        rows = answer_prompts(model, PROMPTS, {"untouched": None, "off": off}, border=" ")
        found.append({(r.condition, r.prompt): (r.ids, r.log_p) for r in rows})
    for key, (ids, log_p) in found[0].items():
        assert found[1][key][0] == ids
        assert found[1][key][1] == pytest.approx(log_p, abs=1e-5)


def test_recording(both):
    one, spread = (record_responses(model, PROMPTS, ("hidden",), batch_size=2) for model in both)
    for layer in range(4):
        np.testing.assert_allclose(
            one.block("hidden", layer), spread.block("hidden", layer), rtol=2e-3, atol=1e-5
        )


def test_attribution(both):
    one, spread = (
        attribute_neurons(
            model, list(TEXTS[:2]), target=9, method="gauss-legendre", n_steps=6, progress=False
        )
        for model in both
    )
    largest = np.abs(one.values).max()
    np.testing.assert_allclose(one.values, spread.values, atol=1e-4 * largest)


@pytest.mark.parametrize("name", ["gradient-activation", "activation"])
def test_locators(both, name):
    one, spread = (locate(model, PROMPTS[:2], name).values for model in both)
    np.testing.assert_allclose(one, spread, atol=1e-4 * np.abs(one).max())


def test_exact_effects(both):
    one, spread = (
        ablate_each(model, [TEXTS[1]], target=9, progress=False)[0].values for model in both
    )
    np.testing.assert_allclose(one, spread, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.skipif(OTHER == "cpu", reason="no GPU is here")
def test_half_of_the_layers_are_on_a_gpu(both):
    devices = [next(layer.parameters()).device.type for layer in both[1].layers]
    assert devices == ["cpu", "cuda", "cpu", "cuda"]


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_offloaded_weights_are_refused_in_one_sentence(where, tmp_path: Path):
    module = build_tiny("llama")
    if where == "cpu":
        accelerate.cpu_offload(module, torch.device("cpu"))
    else:
        accelerate.disk_offload(module, str(tmp_path), torch.device("cpu"))
    with pytest.raises(ModelError, match="not in memory") as caught:
        LanguageModel(module, tiny_tokenizer())
    assert len(str(caught.value).splitlines()) == 1
