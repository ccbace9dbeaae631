"""Folders as people have them: whole, in shards, pickled, damaged, incomplete."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from broca.cli import run_cli
from broca.errors import ModelError
from broca.model import LanguageModel
from tiny import TEXTS, tiny_model, tiny_module, tiny_tokenizer


@pytest.fixture
def folder(tmp_path) -> Path:
    """A tiny Llama as save_pretrained writes it."""
    tiny_module("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def changed(folder: Path, change) -> None:
    """Rewrite the weights after a change of their dictionary."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def assert_is_the_tiny_llama(folder: Path) -> None:
    model, expected = LanguageModel.from_pretrained(str(folder)), tiny_model("llama")
    batch = expected.pad(expected.encode(TEXTS))
    assert torch.equal(model.logits(batch), expected.logits(batch))
    assert model.identity.fingerprint == expected.identity.fingerprint


def test_single_sharded_and_pickled_weights_are_the_same_model(folder):
    assert_is_the_tiny_llama(folder)
    (folder / "model.safetensors").unlink()
    tiny_module("llama").save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert_is_the_tiny_llama(folder)
    for path in folder.glob("model*"):
        path.unlink()
    torch.save(tiny_module("llama").state_dict(), folder / "pytorch_model.bin")
    assert_is_the_tiny_llama(folder)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_a_bin_file_that_would_run_code_is_refused(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"model.norm.weight": Evil()}))
    assert run_cli(["inspect", "--model", str(folder)]) == 2
    torch.save({"model.norm.weight": Evil()}, folder / "pytorch_model.bin")
    assert run_cli(["inspect", "--model", str(folder)]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.count("\n") == 1
    assert "never run" in printed
    assert not (tmp_path / "touched").exists()
    with pytest.raises(ModelError, match="never unpickled"):
        LanguageModel.from_pretrained(str(folder), weights_only=False)


@pytest.mark.parametrize("length", [0, 5, 100, 4000, 40000])
def test_cut_off_weights_are_one_sentence(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match="damaged or cut off") as caught:
        LanguageModel.from_pretrained(str(folder))
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_one_sentence(folder):
    (folder / "model.safetensors").unlink()
    tiny_module("llama").save_pretrained(folder, max_shard_size="20KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(ModelError, match="Cannot load") as caught:
        LanguageModel.from_pretrained(str(folder))
    assert "\n" not in str(caught.value)


def test_missing_left_over_and_misshapen_weights_stop_the_load(folder):
    def without_layer_3(weights) -> None:
        for name in [name for name in weights if ".layers.3." in name]:
            del weights[name]

    original = (folder / "model.safetensors").read_bytes()
    changed(folder, without_layer_3)
    with pytest.raises(ModelError, match=r"are missing.*layers\.3"):
        LanguageModel.from_pretrained(str(folder))
    (folder / "model.safetensors").write_bytes(original)
    changed(folder, lambda weights: weights.update({"model.layers.0.odd.weight": torch.ones(3)}))
    with pytest.raises(ModelError, match="no place in the model"):
        LanguageModel.from_pretrained(str(folder))
    (folder / "model.safetensors").write_bytes(original)
    changed(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(31)}))
    with pytest.raises(ModelError, match=r"another shape .* model\.norm\.weight, 31 for 32"):
        LanguageModel.from_pretrained(str(folder))


def test_weights_without_a_tokenizer_are_one_sentence(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"holds no tokenizer .*tokenizer\.save_pretrained"):
        LanguageModel.from_pretrained(str(folder))
    with pytest.raises(ModelError, match="Give the folder that the file lies in"):
        LanguageModel.from_pretrained(str(folder / "model.safetensors"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_stop_the_load(folder, value):
    def spoil(weights) -> None:
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value

    changed(folder, spoil)
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj.*not finite"):
        LanguageModel.from_pretrained(str(folder))
    module = tiny_module("llama")
    module.lm_head.weight.data[0, 0] = value
    with pytest.raises(ModelError, match="not finite"):
        LanguageModel(module, tiny_tokenizer())


def test_a_failed_self_check_is_exit_code_1(folder, monkeypatch, capsys):
    assert run_cli(["inspect", "--model", str(folder)]) == 0
    own = LanguageModel.self_check
    monkeypatch.setattr(
        LanguageModel, "self_check", lambda self: replace(own(self), untouched_bit_equal=False)
    )
    assert run_cli(["inspect", "--model", str(folder)]) == 1
    assert "✗ logits are bit-equal" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_passes_its_own_self_check(folder, dtype):
    assert run_cli(["inspect", "--model", str(folder), "--dtype", dtype]) == 0


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_generation_config_stops_the_load(folder, text):
    """transformers passes over it: the tokens that end an answer would be others."""
    LanguageModel.from_pretrained(str(folder))
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match="damaged") as caught:
        LanguageModel.from_pretrained(str(folder))
    assert "generation_config.json" in str(caught.value)


@pytest.mark.parametrize("dtype", ["foo", "int8", "Tensor", torch.int64])
def test_a_dtype_of_no_weights_is_named(dtype):
    """The sentence spoke of folders."""
    with pytest.raises(ModelError, match="bfloat16"):
        LanguageModel.from_pretrained("atlas", dtype=dtype)
