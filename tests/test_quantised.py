"""Models in 8 and 4 bits: answers and interventions are exact; attribution is, or is refused."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from broca.attributions import attribute_neurons
from broca.errors import AttributionError, ModelError
from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from tiny import tiny_model

IDS = [5, 6, 7, 8]
without = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is missing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("llama")
    model = tiny_model("llama")
    model.module.save_pretrained(place)
    model.tokenizer.save_pretrained(place)
    return place


def quantised(folder: Path, bits: int) -> LanguageModel:
    from transformers import BitsAndBytesConfig

    return LanguageModel.from_pretrained(
        str(folder),
        quantization_config=BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4),
        dtype="float32",
    )


def logits(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.module(input_ids=torch.tensor([IDS])).logits


def by_own_hooks(model: LanguageModel, neurons: NeuronSet) -> torch.Tensor:
    handles = []
    for layer in set(neurons.layers.tolist()):
        off = neurons.indices[neurons.layers == layer].tolist()

        def zero(module, args, off=off):
            inside = args[0].clone()
            inside[..., off] = 0
            return (inside,)

        down = model.module.model.layers[layer].mlp.down_proj
        handles.append(down.register_forward_pre_hook(zero))
    try:
        return logits(model)
    finally:
        for handle in handles:
            handle.remove()


@without
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [8, 4])
def test_neurons_off_equal_own_hooks(folder: Path, bits: int) -> None:
    model = quantised(folder, bits)
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 6, 0)
    own = by_own_hooks(model, neurons)
    with intervene(model, Deactivate(neurons)):
        ours = logits(model)
    assert (own - logits(model)).abs().max() > 1e-2
    assert torch.equal(ours, own)


@without
@pytest.mark.filterwarnings("ignore")
def test_four_bits_are_attributed_and_eight_are_refused(folder: Path) -> None:
    (found,) = attribute_neurons(quantised(folder, 4), [IDS], target=[9], progress=False).items
    assert found.completeness_error < 1e-4
    with pytest.raises(AttributionError, match="Load it without quantisation"):
        attribute_neurons(quantised(folder, 8), [IDS], target=[9], progress=False)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_checkpoint_whose_library_is_missing(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="bitsandbytes"):
        LanguageModel.from_pretrained(str(tmp_path))
