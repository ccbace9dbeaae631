"""No written copy differs from its intervention, whatever the model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from adapted import ATTENTION, MLP, in_dtype, lora
from broca.edits import ValueVectors, save_edited
from broca.errors import EditError
from broca.interventions import Deactivate, Scale
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from gguf_files import plain_llama, write_gguf
from plain import plain_factor
from tiny import tiny_model, tiny_module, tiny_tokenizer

IDS = torch.tensor([[1, 40, 77, 150, 201, 33, 90, 41, 60], [1, 9, 250, 31, 7, 300, 5, 6, 2]])
TARGETS = {"none": [], "attention": ATTENTION, "mlp": MLP}


def adapted_model(where: str, how: str, dtype: torch.dtype, folder: Path) -> LanguageModel:
    """A tiny Llama with an adapter in some place, come by in some way."""
    if where == "none":
        return LanguageModel(in_dtype(tiny_module("llama"), dtype), tiny_tokenizer(), name="tiny")
    adapted = lora(TARGETS[where], dtype=dtype)
    if how == "loaded":
        adapted.save_pretrained(folder / "adapter")
        adapted = in_dtype(tiny_module("llama"), dtype)
        adapted.load_adapter(str(folder / "adapter"))
    return LanguageModel(adapted, tiny_tokenizer(), name="tiny")


@torch.no_grad()
def logits_of(module) -> torch.Tensor:
    return module(IDS).logits


def plain_logits(model: LanguageModel, neurons, factor: float) -> torch.Tensor:
    """The intervention by hooks that know nothing of broca's tables, in float32."""
    model.module.float()
    with plain_factor(model, neurons, factor):
        return logits_of(model.module)


@settings(max_examples=12, deadline=None)
@given(
    where=st.sampled_from(list(TARGETS)),
    how=st.sampled_from(["wrapped", "loaded"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    factor=st.sampled_from([0.0, 0.5, 2.0]),  # exact in every dtype
    size=st.integers(10, 60),
    seed=st.integers(0, 9),
)
def test_no_written_copy_differs_from_its_intervention(where, how, dtype, factor, size, seed):
    with TemporaryDirectory() as place:
        folder = Path(place)
        model = adapted_model(where, how, dtype, folder)
        neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), size, seed)
        save_edited(model, Scale(neurons, factor), folder / "copy")
        copy = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "copy", dtype=torch.float32
        )
    found, expected = logits_of(copy), plain_logits(model, neurons, factor)
    assert float((found - expected).abs().max()) < 1e-4
    assert float((found - logits_of(model.module)).abs().max()) > 1e-3


def test_a_copy_of_a_gguf_file_is_that_model(tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", plain_llama(), blocks="Q8_0")
    model = LanguageModel.from_pretrained(str(path))
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 20, 0)
    save_edited(model, Deactivate(neurons), tmp_path / "copy")
    copy = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "copy")
    expected = plain_logits(model, neurons, 0.0)
    assert float((logits_of(copy) - expected).abs().max()) < 1e-4
    assert str(tmp_path) not in (tmp_path / "copy" / "config.json").read_text()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "phi3", "opt"])
def test_new_value_vectors_and_scales_together(family, tmp_path):
    """Mixed edits pass their own check in families with all kinds of MLPs."""
    model = tiny_model(family)
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 12, 3)
    change = torch.randn(12, model.widths["down"], generator=torch.Generator().manual_seed(0))
    edits = [Scale(neurons, 0.5), ValueVectors(neurons, change)]
    assert save_edited(model, edits, tmp_path / "copy").is_dir()


# ---- the check sees what is wrong


@pytest.fixture
def model() -> LanguageModel:
    return tiny_model()


def off(model: LanguageModel) -> Deactivate:
    return Deactivate(uniform_random(NeuronIndex(model.identity, ("hidden",)), 20, 0))


def saved_without_edit(model: LanguageModel, monkeypatch) -> None:
    """save_pretrained writes the model as it was."""
    untouched = tiny_module("llama")
    own = type(model.module).save_pretrained
    monkeypatch.setattr(model.module, "save_pretrained", lambda path: own(untouched, path))


def saved_as_adapter(model: LanguageModel, monkeypatch) -> None:
    """save_pretrained writes an adapter, as transformers does where one is loaded."""
    adapted = lora(ATTENTION)
    monkeypatch.setattr(model.module, "save_pretrained", adapted.save_pretrained)


def saved_in_part(model: LanguageModel, monkeypatch) -> None:
    """A shard is lost."""
    own = type(model.module).save_pretrained

    def save(path) -> None:
        own(model.module, path, max_shard_size="20KB")
        sorted(Path(path).glob("model-*"))[-1].unlink()

    monkeypatch.setattr(model.module, "save_pretrained", save)


def acts_otherwise(model: LanguageModel, monkeypatch) -> None:
    """Weights are edited well, but the model does not answer by them."""
    model.module.model.layers[1].mlp.down_proj.register_forward_hook(
        lambda module, args, output: output * 1.5
    )


@pytest.mark.parametrize(
    "damage", [saved_without_edit, saved_as_adapter, saved_in_part, acts_otherwise]
)
def test_a_copy_that_is_not_the_edited_model_is_never_called_done(
    model, damage, monkeypatch, tmp_path
):
    damage(model, monkeypatch)
    with pytest.raises(EditError, match="written copy") as caught:
        save_edited(model, off(model), tmp_path / "copy")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
