"""Editing in the weights: equal to the intervention, the right columns, nothing else touched."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from broca.edits import (
    ValueVectors,
    edited,
    save_edited,
)
from broca.errors import EditError, NeuronError
from broca.interventions import Deactivate, Fix, Scale, intervene
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronIndex, NeuronSet, uniform_random
from tiny import TEXTS, tiny_model, tiny_tokenizer

FAMILIES = ("llama", "gpt2", "mistral", "phi3", "gemma2", "gpt_neox", "opt")
WORDS = " ".join(TEXTS).split()


def many_texts(n: int = 100) -> list[str]:
    """Texts of 3 to 12 words, no two alike."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 13))) for _ in range(n)]


def hidden_set(model: LanguageModel, k: int = 12, seed: int = 0) -> NeuronSet:
    return uniform_random(NeuronIndex(model.identity, ("hidden",)), k, seed)


def single(model: LanguageModel, site: str, *numbers: int) -> NeuronSet:
    return NeuronSet.of([Neuron(site, 1, i) for i in numbers or (3,)], model.identity)


def weights_of(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.module.state_dict().items()}


def plain_logits(module, texts: list[str]) -> torch.Tensor:
    """Logits after each text by transformers alone; texts of one length share a batch."""
    by_length: dict[int, list[list[int]]] = {}
    for text in texts:
        ids = tiny_tokenizer()(text).input_ids
        by_length.setdefault(len(ids), []).append(ids)
    with torch.no_grad():
        return torch.cat([module(torch.tensor(ids)).logits[:, -1] for ids in by_length.values()])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_copy_in_plain_transformers_equals_the_intervention(family, tmp_path):
    model = tiny_model(family)
    off, boosted = hidden_set(model, seed=1), hidden_set(model, seed=2) - hidden_set(model, seed=1)
    changes = [Deactivate(off), Scale(boosted, 2.0)]
    before = weights_of(model)
    save_edited(model, changes, tmp_path / "copy")
    for name, weight in model.module.state_dict().items():
        assert torch.equal(weight, before[name]), name
    texts = many_texts(100 if family in ("llama", "gpt2", "mistral", "phi3") else 10)
    copy = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "copy", attn_implementation=model.config._attn_implementation
    ).eval()
    with intervene(model, *changes):
        expected = plain_logits(model.module, texts)
    found = plain_logits(copy, texts)
    assert float((found - expected).abs().max()) <= 1e-5
    assert float((found - plain_logits(model.module, texts)).abs().max()) > 0.1
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "copy")
    assert tokenizer(texts[0]).input_ids == model.encode(texts[:1])[0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_the_edit_hits_these_columns_and_no_other_number(family):
    model = tiny_model(family)
    name = {"gpt2": "transformer.h.1.mlp.c_proj.weight"}.get(
        family, "model.layers.1.mlp.down_proj.weight"
    )
    before = weights_of(model)
    with edited(model, Scale(single(model, "hidden", 3, 40), 2.0)):
        for key, weight in model.module.state_dict().items():
            if key != name:
                assert torch.equal(weight, before[key]), key
        expected = before[name].clone()
        if family == "gpt2":  # Conv1D keeps inputs in rows
            expected[[3, 40]] *= 2
        else:
            expected[:, [3, 40]] *= 2
        assert torch.equal(model.module.state_dict()[name], expected)


@pytest.mark.parametrize(
    ("family", "site", "factor"),
    [("llama", "up", 2.5), ("llama", "gate", 0.0), ("phi3", "up", 0.5), ("gpt2", "up", 0.0)],
)
def test_gate_and_up_edit_the_same_unit_where_that_means_the_same(family, site, factor):
    model = tiny_model(family)
    change = Scale(single(model, site, 3, 7, 30), factor)
    with intervene(model, change):
        expected = plain_logits(model.module, many_texts(5))
    with edited(model, change):
        found = plain_logits(model.module, many_texts(5))
    assert float((found - expected).abs().max()) <= 1e-5


def test_one_unit_by_two_sites_is_scaled_twice_as_by_interventions():
    model = tiny_model()
    both = single(model, "hidden") | single(model, "up")
    with intervene(model, Scale(both, 1.5)):
        expected = plain_logits(model.module, many_texts(3))
    with edited(model, Scale(both, 1.5)):
        assert torch.allclose(plain_logits(model.module, many_texts(3)), expected, atol=1e-5)


def test_weights_come_back_after_an_exception_and_nested_edits():
    model = tiny_model("gpt2")
    before = weights_of(model)
    vectors = ValueVectors(single(model, "hidden", 3, 9), torch.ones(2, 32))
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        edited(model, Deactivate(single(model, "hidden", 3))),
        edited(model, vectors),
    ):
        raise RuntimeError("in the middle")
    assert all(torch.equal(w, before[n]) for n, w in model.module.state_dict().items())


def test_the_files_of_the_original_stay_byte_for_byte(tmp_path):
    source = tmp_path / "original"
    tiny_model().module.save_pretrained(source)
    tiny_tokenizer().save_pretrained(source)
    hashes = file_hashes(source)
    model = LanguageModel.from_pretrained(str(source))
    save_edited(model, Deactivate(hidden_set(model)), tmp_path / "copy", note="By hand.")
    assert file_hashes(source) == hashes
    card = (tmp_path / "copy" / "README.md").read_text()
    assert all(words in card for words in ("12 neurons", "switched off", "By hand."))
    record = json.loads((tmp_path / "copy" / "edit.json").read_text())
    assert record["model"]["fingerprint"] == model.identity.fingerprint
    assert record["edits"][0]["neurons"] == [str(n) for n in hidden_set(model)]
    copy = LanguageModel.from_pretrained(str(tmp_path / "copy"))
    assert copy.identity.fingerprint != model.identity.fingerprint
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def file_hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


# ---- what is refused


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    model = tiny_model()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine.txt").write_text("mine")
    with pytest.raises(EditError, match="not empty"):
        save_edited(model, Deactivate(hidden_set(model)), tmp_path / "copy")
    assert [p.name for p in (tmp_path / "copy").iterdir()] == ["mine.txt"]
    with pytest.raises(EditError, match="file"):
        save_edited(model, Deactivate(hidden_set(model)), tmp_path / "copy" / "mine.txt")
    (tmp_path / "empty").mkdir()
    save_edited(model, Deactivate(hidden_set(model)), tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").exists()


@pytest.mark.parametrize("site", ["down", "q", "k", "v", "o"])
def test_a_site_without_value_vectors_is_refused(site, tmp_path):
    model = tiny_model()
    with pytest.raises(EditError, match="no value vector"):
        save_edited(model, Deactivate(single(model, site)), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(("family", "site"), [("llama", "gate"), ("gpt2", "up")])
def test_scaling_before_an_activation_is_refused(family, site):
    model = tiny_model(family)
    with pytest.raises(EditError, match="activation"), edited(model, Scale(single(model, site), 2)):
        pass


def test_other_changes_are_refused():
    model = tiny_model()
    neurons = single(model, "hidden")
    with (
        pytest.raises(EditError, match="every position"),
        edited(model, Deactivate(neurons, "last")),
    ):
        pass
    with pytest.raises(EditError, match="Fix"), edited(model, Fix(neurons, 1.0)):  # type: ignore[arg-type]
        pass
    with pytest.raises(EditError, match="nothing"), edited(model):
        pass
    with pytest.raises(EditError, match="Only hidden"):
        ValueVectors(single(model, "up"), torch.zeros(1, 32))
    with pytest.raises(EditError, match="not finite"):
        ValueVectors(neurons, torch.full((1, 32), float("nan")))


def test_a_neuron_that_does_not_exist_is_refused():
    model = tiny_model()
    with pytest.raises(NeuronError, match="outside"):
        NeuronSet.of([Neuron("hidden", 1, 48)], model.identity)
    elsewhere = replace(model.identity, n_layers=9, id="larger")
    other = NeuronSet.of([Neuron("hidden", 8, 3)], elsewhere)
    with pytest.raises(NeuronError, match="another shape"), edited(model, Deactivate(other)):
        pass


def test_a_quantised_model_is_refused(tmp_path):
    model = tiny_model()
    model.module.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(EditError, match="quantised"):
        save_edited(model, Deactivate(single(model, "hidden")), tmp_path / "copy")
    model = tiny_model()
    down = model.block(1).down
    down.weight = torch.nn.Parameter(down.weight.to(torch.int8), requires_grad=False)
    with (
        pytest.raises(EditError, match="quantised"),
        edited(model, Deactivate(single(model, "hidden"))),
    ):
        pass


def test_value_vectors_shared_between_layers_are_refused():
    model = tiny_model()
    model.block(2).down.weight = model.block(1).down.weight
    with (
        pytest.raises(EditError, match="share"),
        edited(model, Deactivate(single(model, "hidden"))),
    ):
        pass


def test_what_a_killed_write_left_is_swept(tmp_path):
    left = tmp_path / ".copy.part-0123abcd"
    kept = [tmp_path / name for name in (".copy.part-mine", ".other.part-0123abcd", "copy.part-01")]
    for folder in (left, *kept):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    model = tiny_model("llama")
    neurons = NeuronSet.of([Neuron("hidden", 0, 0)], model.identity)
    save_edited(model, Deactivate(neurons), tmp_path / "copy")
    assert not left.exists()
    assert all(folder.exists() for folder in kept)
