"""Models in 8 and 4 bits: answers and interventions are exact; attribution is, or is refused."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from broca.attributions import attribute_neurons
from broca.edits import edited
from broca.effects import ablate_each
from broca.errors import AttributionError, EditError, ModelError
from broca.interventions import Deactivate, Scale, intervene
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from tiny import tiny_model

IDS = [5, 6, 7, 8]
LIBRARY = {
    "bitsandbytes, 8 bits": "bitsandbytes",
    "bitsandbytes, 4 bits": "bitsandbytes",
    "torchao, 8 bits": "torchao",
    "torchao, 4 bits": "torchao",
    "quanto, 8 bits": "optimum",
    "quanto, 4 bits": "optimum",
}
KINDS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(find_spec(library) is None, reason=f"{library} is missing"),
    )
    for kind, library in LIBRARY.items()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("llama")
    model = tiny_model("llama")
    model.module.save_pretrained(place)
    model.tokenizer.save_pretrained(place)
    return place


def settings(kind: str) -> Any:
    library, bits = kind.split(", ")
    eight = bits == "8 bits"
    if library == "bitsandbytes":
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(load_in_8bit=eight, load_in_4bit=not eight)
    if library == "quanto":
        from transformers import QuantoConfig

        return QuantoConfig(weights="int8" if eight else "int4")
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig
    from transformers import TorchAoConfig

    four = IntxWeightOnlyConfig(weight_dtype=torch.int4)
    return TorchAoConfig(quant_type=Int8WeightOnlyConfig() if eight else four)


def quantised(folder: Path, kind: str) -> LanguageModel:
    return LanguageModel.from_pretrained(
        str(folder), quantization_config=settings(kind), dtype="float32"
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_neurons_off_equal_own_hooks(folder: Path, kind: str) -> None:
    model = quantised(folder, kind)
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 6, 0)
    own = by_own_hooks(model, neurons)
    with intervene(model, Deactivate(neurons)):
        ours = logits(model)
    assert (own - logits(model)).abs().max() > 1e-2
    assert torch.equal(ours, own)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_attribution_is_exact_or_refused(folder: Path, kind: str) -> None:
    """8 bits of bitsandbytes round activations together, whatever else is in the batch."""
    model = quantised(folder, kind)
    if kind == "bitsandbytes, 8 bits":
        with pytest.raises(AttributionError, match="Load it without quantisation"):
            attribute_neurons(model, [IDS], target=[9], progress=False)
        return
    (found,) = attribute_neurons(model, [IDS], target=[9], progress=False).items
    assert found.completeness_error < 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_exact_effects_equal_the_loop(folder: Path, kind: str) -> None:
    model = quantised(folder, kind)
    (found,) = ablate_each(model, [IDS], target=[9], progress=False).items
    before = logits(model)[0, -1].log_softmax(-1)[9]
    for layer, neuron in ((0, 3), (1, 5), (model.n_layers - 1, 7)):

        def zero(module, args, neuron=neuron):
            inside = args[0].clone()
            inside[:, -1, neuron] = 0
            return (inside,)

        down = model.module.model.layers[layer].mlp.down_proj
        handle = down.register_forward_pre_hook(zero)
        after = logits(model)[0, -1].log_softmax(-1)[9]
        handle.remove()
        assert found.values[layer, neuron] == pytest.approx(float(after - before), abs=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_not_edited(folder: Path, kind: str) -> None:
    model = quantised(folder, kind)
    change = Scale(uniform_random(NeuronIndex(model.identity, ("hidden",)), 6, 0), 0.5)
    with pytest.raises(EditError, match="Load it without quant"), edited(model, change):
        pass
    del model.module.hf_quantizer, model.module.config.quantization_config  # packed in place
    with pytest.raises(EditError, match="Load it without quant"), edited(model, change):
        pass


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_a_checkpoint_whose_library_is_missing(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="bitsandbytes"):
        LanguageModel.from_pretrained(str(tmp_path))
