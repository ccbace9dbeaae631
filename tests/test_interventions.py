"""Deactivate, Scale and Fix against plain hooks, per batch and per row."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from broca.errors import InterventionError, NeuronError
from broca.interventions import Deactivate, Fix, Scale, first_layer, intervene
from broca.model import LanguageModel
from broca.model.check import recorded
from broca.neurons import NeuronIndex, NeuronSet, WeightsDifferWarning, uniform_random
from plain import plain_factor
from tiny import TEXTS, tiny_model, tiny_module, tiny_tokenizer


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


def draw(model, seed=0, k=30, sites=("gate", "up", "hidden", "down", "q", "k", "v", "o")):
    return uniform_random(NeuronIndex(model.identity, sites), k, seed)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gemma2", "olmo2"])
@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_scaling_equals_plain_hooks(family, factor):
    model = tiny_model(family)
    batch = model.pad(model.encode(TEXTS))
    neurons = draw(model)
    with intervene(model, Scale(neurons, factor)):
        ours = model.logits(batch)
    with plain_factor(model, neurons, factor):
        theirs = model.module(**_kwargs(batch)).logits[:, -1:]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(ours, model.logits(batch), atol=1e-4)


def _kwargs(batch):
    return {
        "input_ids": batch.ids,
        "attention_mask": batch.attention_mask,
        "position_ids": batch.position_ids,
    }


def test_identity_interventions_change_no_bit(model):
    batch = model.pad(model.encode(TEXTS))
    plain = model.logits(batch)
    nothing = NeuronSet.of([], model.identity)
    for change in (Scale(draw(model), 1.0), Deactivate(nothing), Scale(nothing, 3.0)):
        with intervene(model, change):
            assert torch.equal(model.logits(batch), plain)


def test_rows_of_a_mixed_batch_equal_single_rows(model):
    tokens = model.encode(TEXTS)
    changes = [
        Deactivate(draw(model, 1)),
        None,
        Scale(draw(model, 2), 2.0, "last"),
        Fix(draw(model, 3, 4), (0.1, -0.2, 0.3, 1.0), (-1, -2)),
    ]
    with intervene(model, rows=changes):
        mixed = model.logits(model.pad(tokens))
    for row, (ids, change) in enumerate(zip(tokens, changes, strict=True)):
        with intervene(model, change):
            alone = model.logits(model.pad([ids]))
        torch.testing.assert_close(mixed[row], alone[0], atol=1e-5, rtol=1e-5)


def test_positions_and_values_by_hand(model):
    batch = model.pad(model.encode(TEXTS))
    neurons = NeuronSet.of([*draw(model, 5, 6, ("up",))][:3], model.identity)
    layer = int(neurons.layers[0])
    here = neurons.only(layer=layer)
    index = torch.from_numpy(here.indices.astype(np.int64))
    with recorded(model, ("up",)) as before:
        model.logits(batch)
    with intervene(model, Fix(here, 0.5, "last")), recorded(model, ("up",)) as after:
        model.logits(batch)
    expected = before["up", layer].clone()
    expected[:, -1, index] = 0.5
    assert torch.equal(after["up", layer], expected)
    with intervene(model, Deactivate(here, (-2,)), after_prompt=1), recorded(model, ("up",)) as on:
        model.logits(batch)
    expected = before["up", layer].clone()
    expected[:, -3, index] = 0
    assert torch.equal(on["up", layer], expected)


def test_same_unit_by_gate_up_or_hidden_is_the_same_edit(model):
    batch = model.pad(model.encode(TEXTS))
    results = []
    for site in ("gate", "up", "hidden"):
        units = [(site, 1, 4), (site, 2, 9)]
        neurons = NeuronSet.of(
            [type(next(iter(draw(model))))(*unit) for unit in units], model.identity
        )
        with intervene(model, Deactivate(neurons)):
            results.append(model.logits(batch))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(results[0], results[2], atol=1e-6, rtol=1e-6)


def test_deactivation_zeroes_infinite_values(model):
    neurons = draw(model, 0, 1, ("down",))
    layer, index = int(neurons.layers[0]), int(neurons.indices[0])
    batch = model.pad(model.encode(TEXTS[:1]))

    def blow_up(tensor):
        tensor = tensor.clone()
        tensor[..., index] = float("inf")
        return tensor

    with model.touch("down", layer, blow_up), intervene(model, Deactivate(neurons)):
        assert model.logits(batch).isfinite().all()


def test_sets_of_other_models_are_refused_or_warned_about(model):
    other_shape = draw(tiny_model("llama", num_hidden_layers=3), k=3)
    with (
        pytest.raises(NeuronError, match="another shape"),
        intervene(model, Deactivate(other_shape)),
    ):
        pass
    sibling = draw(LanguageModel(tiny_module("llama", 7), tiny_tokenizer(), name="sibling"), k=3)
    with pytest.warns(WeightsDifferWarning, match="sibling"), intervene(model, Deactivate(sibling)):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with intervene(model, Deactivate(draw(model, k=3))):
            pass


def test_mistakes(model):
    neurons = draw(model, k=3)
    with pytest.raises(InterventionError, match="finite"):
        Scale(neurons, float("nan"))
    with pytest.raises(InterventionError, match="2 values for 3"):
        Fix(neurons, (0.0, 1.0))
    with pytest.raises(InterventionError, match="positions"):
        Deactivate(neurons, (0,))
    with pytest.raises(InterventionError, match="positions"):
        Deactivate(neurons, "first")
    with pytest.raises(InterventionError, match="one per row"), intervene(model):
        pass


def test_first_layer(model):
    low = NeuronSet.of([*draw(model).only(layer=1)], model.identity)
    high = NeuronSet.of([*draw(model).only(layer=3)], model.identity)
    assert first_layer([Deactivate(high)]) == 3
    assert first_layer([Deactivate(high), Deactivate(low), None]) == 1
    assert first_layer([None]) is None


def test_how_a_model_is_driven_is_measured_without_the_changes():
    """Hooks of seven rows would fail every pass that it is measured by."""
    fresh = LanguageModel(tiny_module("llama"), tiny_tokenizer())
    changes = [Deactivate(draw(fresh, seed, sites=("gate", "up"))) for seed in range(7)]
    with intervene(fresh, rows=changes):
        drive = fresh.drive
    assert drive.pads
    assert drive.resumes
    assert drive.caches


@pytest.mark.parametrize("positions", ["all", "answer", "last"])
def test_masks_change_what_single_neurons_do_bit_by_bit(model, monkeypatch, positions):
    """Few values are passed through a mask, many are found one by one."""
    batch = model.pad(model.encode(TEXTS))
    off = [None, *(Deactivate(draw(model, seed), positions) for seed in range(len(TEXTS) - 1))]
    with intervene(model, rows=off):
        masked = model.logits(batch)
    monkeypatch.setattr("broca.interventions.rows.MASKED", 0)
    with intervene(model, rows=off):
        found = model.logits(batch)
    assert torch.equal(masked, found)
    assert not torch.equal(masked[1:], model.logits(batch)[1:])
