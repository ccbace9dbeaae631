"""GGUF files: the model in them is the model that was put in, and damage is told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broca.edits import save_edited
from broca.errors import ModelError
from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.model.loading.skimming import skimmed
from broca.neurons import NeuronIndex, uniform_random
from gguf_files import TEMPLATE, plain_llama, write_gguf
from tiny import TEXTS, tiny_tokenizer


@pytest.fixture(scope="module")
def module():
    return plain_llama()


@pytest.fixture(scope="module")
def file(module, tmp_path_factory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", module)


def logits_of(module, texts=TEXTS) -> list[torch.Tensor]:
    """By transformers alone, one text at a time."""
    with torch.no_grad():
        return [module(torch.tensor([tiny_tokenizer()(t).input_ids])).logits[0] for t in texts]


def assert_equal(found, expected, tolerance: float = 0.0) -> None:
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) <= tolerance


def test_weights_come_out_as_they_went_in(module, file):
    model = LanguageModel.from_pretrained(str(file))
    assert_equal(logits_of(model.module), logits_of(module))
    assert model.dtype == torch.float32
    assert model.name == str(file)
    assert any("unpacked to float32" in note for note in model.notes)


def test_blocks_are_unpacked_to_the_numbers_they_stand_for(module, tmp_path):
    path = write_gguf(tmp_path / "blocks.gguf", module, blocks="Q8_0")
    model = LanguageModel.from_pretrained(str(path))
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, weight in module.state_dict().items():
        expected = weight
        if weight.ndim == 2 and "layers" in name and "q_proj" not in name and "k_proj" not in name:
            expected = torch.tensor(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))
            assert not torch.equal(expected, weight)
        elif weight.ndim == 2 and "layers" in name:
            continue  # turned before they are packed
        assert torch.equal(model.module.state_dict()[name], expected), name
    shown = {note for note in model.notes if "Q8_0 × 28" in note}
    assert len(shown) == 1


@pytest.mark.parametrize("shape", [(48, 256), (3, 16, 512), (7, 256), (256,)])
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q8_0", "BF16", "F16", "F32"])
def test_large_pieces_are_unpacked_like_small_ones(kind, shape):
    """Rows joined to longer ones, of an array that is no memory map: the same bits."""
    packed = gguf.quantize(
        np.random.default_rng(0).standard_normal(shape, dtype=np.float32),
        gguf.GGMLQuantizationType[kind],
    )
    expected = gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])
    with skimmed():
        found = gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])
    assert found.shape == expected.shape == shape
    assert np.array_equal(found, expected)


def test_plain_transformers_reads_the_same(file):
    """The slow twin: no skipping, no correction."""
    options = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    plain = transformers.AutoModelForCausalLM.from_pretrained(**options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**options)
    model = LanguageModel.from_pretrained(str(file))
    assert_equal(logits_of(model.module), logits_of(plain))
    for text in TEXTS:
        assert model.encode([text])[0] == tokenizer(text).input_ids


@pytest.mark.parametrize("blocks", ["F32", "Q8_0"])
def test_a_module_that_transformers_loaded_is_edited_like_any_other(module, tmp_path, blocks):
    path = write_gguf(tmp_path / "model.gguf", module, blocks=blocks)
    options = {"pretrained_model_name_or_path": str(tmp_path), "gguf_file": path.name}
    plain = transformers.AutoModelForCausalLM.from_pretrained(**options)
    model = LanguageModel(plain, transformers.AutoTokenizer.from_pretrained(**options))
    assert "unpacked from a GGUF file" in model.notes[0]
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 40, 0)
    copy = save_edited(model, [Deactivate(neurons)], tmp_path / "copy")
    edited = LanguageModel.from_pretrained(str(copy))
    ids = model.pad(model.encode([TEXTS[0]]))
    with intervene(model, Deactivate(neurons)):
        assert torch.equal(edited.logits(ids), model.logits(ids))


def test_the_tokenizer_is_that_of_the_file(file):
    model, expected = LanguageModel.from_pretrained(str(file)), tiny_tokenizer()
    for text in (*TEXTS, "In 1879,  été <eos>", " B", "a\n\nb"):
        assert model.encode([text])[0] == expected(text).input_ids
        assert model.tokenizer.decode(expected(text).input_ids) == expected.decode(
            expected(text).input_ids
        )
    for token in ("bos", "eos", "pad"):
        assert getattr(model.tokenizer, f"{token}_token_id") == getattr(
            expected, f"{token}_token_id"
        )
    assert model.tokenizer.chat_template == TEMPLATE


def test_numbers_are_cut_as_the_file_says(module, tmp_path):
    path = write_gguf(tmp_path / "digits.gguf", module, pre="smollm")
    model = LanguageModel.from_pretrained(str(path))
    cut = model.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  1879")
    assert [piece for piece, _ in cut] == ["a", "ĠĠ", "1", "8", "7", "9"]
    path = write_gguf(tmp_path / "strange.gguf", module, pre="never-heard-of")
    strange = LanguageModel.from_pretrained(str(path))
    assert any("never-heard-of" in note for note in strange.notes)


def test_neighbours_are_not_looked_at(file, tmp_path):
    """Two models in one folder, one of them with settings of its own beside it."""
    own = tmp_path / file.name
    own.write_bytes(file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "x"}))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text("{")
    model = LanguageModel.from_pretrained(str(own))
    assert model.tokenizer.bos_token == "<bos>"


def test_a_saved_folder_equals_the_file(file, tmp_path):
    model = LanguageModel.from_pretrained(str(file))
    model.module.save_pretrained(tmp_path / "folder")
    model.tokenizer.save_pretrained(tmp_path / "folder")
    saved = LanguageModel.from_pretrained(str(tmp_path / "folder"))
    assert_equal(logits_of(saved.module), logits_of(model.module))
    assert saved.identity.fingerprint == model.identity.fingerprint
    assert saved.encode(TEXTS) == model.encode(TEXTS)
    written = "".join(p.read_text() for p in (tmp_path / "folder").glob("*.json"))
    assert str(file.parent) not in written
    assert "gguf" not in json.loads((tmp_path / "folder" / "config.json").read_text())


def test_another_dtype_where_asked(file):
    model = LanguageModel.from_pretrained(str(file), dtype="bfloat16", device_map="cpu")
    assert model.dtype == torch.bfloat16
    assert any("bfloat16" in note for note in model.notes)


# ---- rotary frequencies


def llama3_factors(n: int, base: float, factor: float) -> np.ndarray:
    """What Llama 3.1 divides each frequency by, from its paper's code, one at a time."""
    found = []
    for i in range(n):
        length = 2 * np.pi * base ** (2 * i / (2 * n))
        if length < 8192 / 4:
            found.append(1.0)
        elif length > 8192:
            found.append(factor)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found)


def test_scaled_frequencies_of_llama_3_are_kept(tmp_path):
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    module = plain_llama(rope_parameters=scaled)
    factors = llama3_factors(4, 500000.0, 8.0)
    path = write_gguf(tmp_path / "scaled.gguf", module, rope_freqs=factors)
    model = LanguageModel.from_pretrained(str(path))
    assert_equal(logits_of(model.module), logits_of(module), 1e-5)
    strange = write_gguf(tmp_path / "strange.gguf", module, rope_freqs=[1, 2, 3, 4])
    with pytest.raises(ModelError, match="rotary frequencies"):
        LanguageModel.from_pretrained(str(strange))


def test_other_scalings(tmp_path):
    module = plain_llama(
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    )
    path = write_gguf(tmp_path / "linear.gguf", module, scaling="linear")
    assert_equal(logits_of(LanguageModel.from_pretrained(str(path)).module), logits_of(module))
    path = write_gguf(tmp_path / "yarn.gguf", module, scaling="yarn")
    with pytest.raises(ModelError, match="'yarn'"):
        LanguageModel.from_pretrained(str(path))


# ---- damage


def test_missing_weights_are_named(module, tmp_path):
    name = "model.layers.2.mlp.up_proj.weight"
    path = write_gguf(tmp_path / "hole.gguf", module, leave_out=name)
    with pytest.raises(ModelError, match=r"1 weights are missing.*layers\.2\.mlp\.up_proj"):
        LanguageModel.from_pretrained(str(path))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_a_sentence(file, tmp_path_factory, data):
    """Cut off, or bytes of the settings changed: an error of broca's, or a model that works."""
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 8), "changes")):
            content[data.draw(st.integers(0, 3000), "place")] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    path.write_bytes(content)
    assert "\n" not in told_of(path)


def told_of(path: Path) -> str:
    """The error's words, none where the model loads; any other exception fails the test."""
    try:
        LanguageModel.from_pretrained(str(path))
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "key", ["block_count", "embedding_length", "attention.head_count", "rope.dimension_count"]
)
def test_sizes_beyond_the_file_are_refused_before_memory_is_taken(file, tmp_path, key):
    content = bytearray(file.read_bytes())
    place = content.index(f"llama.{key}".encode()) + len(f"llama.{key}") + 4
    content[place : place + 4] = (1 << 30).to_bytes(4, "little")
    path = tmp_path / "vast.gguf"
    path.write_bytes(content)
    assert "cannot be read" in told_of(path)


def test_a_tensor_of_another_shape_is_named(file, tmp_path):
    """As many numbers, 16 wide where the model is 32 wide."""
    content = bytearray(file.read_bytes())
    name = b"blk.1.ffn_up.weight"
    place = content.index(name) + len(name) + 4  # behind the number of dimensions
    content[place : place + 16] = (16).to_bytes(8, "little") + (128).to_bytes(8, "little")
    path = tmp_path / "wide.gguf"
    path.write_bytes(content)
    assert "layers.1.mlp.up_proj.weight, 128 × 16 for 64 × 32" in told_of(path)


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    from broca.cli import run_cli

    path = tmp_path / "no.gguf"
    path.write_bytes(b"<html>not found</html>" * 99)
    assert run_cli(["inspect", "--model", str(path)]) == 2
    assert run_cli(["inspect", "--model", str(tmp_path / "none.gguf")]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 2
    assert "no GGUF file" in printed[0]
    assert "no such file" in printed[1]


def test_a_transformers_without_these_readers_is_named(file, monkeypatch):
    name = "transformers.integrations.gguf.gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS"
    monkeypatch.delattr(name)
    with pytest.raises(ModelError, match="needs a newer transformers") as caught:
        LanguageModel.from_pretrained(str(file))
    assert "pip install --upgrade" in str(caught.value)
