"""Adapters merged or kept: the model under study is the one that answers, weights included."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import peft
import pytest
import torch

from adapted import ATTENTION, MLP, lora
from broca.cli import run_cli
from broca.edits import save_edited
from broca.errors import EditError, ModelError
from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from tiny import TEXTS, tiny_module, tiny_tokenizer


@torch.no_grad()
def logits_of(module, texts=TEXTS) -> list[torch.Tensor]:
    ids = [tiny_tokenizer()(text).input_ids for text in texts]
    return [module(torch.tensor([each])).logits[0].float() for each in ids]


def difference(found, expected) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """A base model and an adapter of it, on disk."""
    tiny_module("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    adapted = lora(ATTENTION)
    adapted.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    values = json.loads(config.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}
    config.write_text(json.dumps(values))
    return tmp_path / "base", tmp_path / "adapter"


@pytest.mark.parametrize("targets", [ATTENTION, MLP])
def test_a_peft_model_is_merged_and_says_so(targets):
    expected = logits_of(lora(targets))
    assert difference(expected, logits_of(tiny_module("llama"))) > 0.5
    model = LanguageModel(lora(targets), tiny_tokenizer())
    assert difference(logits_of(model.module), expected) < 1e-4
    assert any("merged into the weights" in note for note in model.notes)
    assert not any("lora" in name for name, _ in model.module.named_parameters())


@pytest.mark.parametrize(
    ("targets", "family"), [(ATTENTION, "llama"), (MLP, "llama"), (["c_fc", "c_proj"], "gpt2")]
)
def test_kept_beside_where_asked(targets, family):
    """Weights are not changed, answers are the same, and value vectors are those that act."""
    adapted = lora(targets, family)
    expected = logits_of(adapted)
    kept = LanguageModel(adapted, tiny_tokenizer(), merge_adapter=False)
    merged = LanguageModel(lora(targets, family), tiny_tokenizer())
    assert difference(logits_of(adapted), expected) == 0
    assert any("kept beside" in note for note in kept.notes)
    for layer in range(kept.n_layers):
        torch.testing.assert_close(kept.value_weight(layer), merged.value_weight(layer))
    assert kept.widths == merged.widths
    off = uniform_random(NeuronIndex(kept.identity, ("hidden", "up")), 20, 0)
    moved = []
    for model in (kept, merged):
        own = uniform_random(NeuronIndex(model.identity, ("hidden", "up")), 20, 0)
        assert list(own) == list(off)
        with intervene(model, Deactivate(own)):
            moved.append(logits_of(model.module))
    assert difference(*moved) < 1e-4
    with pytest.raises(EditError, match="adapter beside"):
        save_edited(kept, Deactivate(off.only(site="hidden")), "nowhere")
    assert not Path("nowhere").exists()


def test_an_adapter_folder_names_its_model(folders):
    base, adapter = folders
    expected = logits_of(lora(ATTENTION))
    for options in (
        {"name_or_path": str(adapter)},
        {"name_or_path": str(base), "adapter": str(adapter)},
    ):
        model = LanguageModel.from_pretrained(**options)
        assert difference(logits_of(model.module), expected) < 1e-4
        assert any("merged" in note for note in model.notes)
    kept = LanguageModel.from_pretrained(str(adapter), merge_adapter=False)
    assert any("kept" in note for note in kept.notes)
    assert run_cli(["inspect", "--model", str(adapter)]) == 0


def test_an_adapter_loaded_into_the_module_is_merged(folders):
    module = tiny_module("llama")
    module.load_adapter(str(folders[1]))
    expected = logits_of(module)
    model = LanguageModel(module, tiny_tokenizer())
    assert difference(logits_of(model.module), expected) < 1e-4
    assert difference(expected, logits_of(tiny_module("llama"))) > 0.5
    assert "merged" in model.notes[0]


def test_an_adapter_switched_off_is_not_merged(folders):
    module = tiny_module("llama")
    module.load_adapter(str(folders[1]))
    module.disable_adapters()
    model = LanguageModel(module, tiny_tokenizer())
    assert difference(logits_of(model.module), logits_of(tiny_module("llama"))) == 0


def test_the_tokenizer_of_an_adapters_folder_is_taken(folders):
    """Adapters are trained with a chat template of their own: the model's was used in silence."""
    base, adapter = folders
    assert LanguageModel.from_pretrained(str(adapter)).tokenizer.chat_template is None
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = "<u>{{ messages[0]['content'] }}</u>"
    tokenizer.save_pretrained(adapter)
    for options in (
        {"name_or_path": str(adapter)},
        {"name_or_path": str(base), "adapter": str(adapter)},
    ):
        model = LanguageModel.from_pretrained(**options)
        assert model.chat("a cat") == "<u>a cat</u>"
        assert any("those of the adapter's folder" in note for note in model.notes)
    (adapter / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        LanguageModel.from_pretrained(str(adapter))


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("active", ["default", "other"])
def test_of_two_adapters_the_active_one_counts(active, merge):
    """One had no part in a layer: a KeyError. Both were named as merged."""
    adapted = lora(ATTENTION)
    adapted.add_adapter("other", peft.LoraConfig(r=2, target_modules=["down_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B.other" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.set_adapter(active)
    expected = logits_of(adapted)
    model = LanguageModel(adapted, tiny_tokenizer(), merge_adapter=merge)
    assert difference(logits_of(model.module), expected) < 1e-4
    idle = {"default": "other", "other": "default"}[active]
    assert model.notes[0].startswith(f"Adapter {active} of")
    assert model.notes[0].endswith(f"Not active: {idle}.")


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")  # of peft
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [1, 80]}},
    ],
)
def test_an_adapter_of_one_end_is_merged_into_that_end(options, tied, tmp_path):
    """Tied ends are one tensor: merged into both, logits were off by 15."""
    module = tiny_module("llama", tie_word_embeddings=tied)
    adapted = peft.get_peft_model(module, peft.LoraConfig(r=2, **options))
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    expected = logits_of(adapted)
    assert difference(expected, logits_of(tiny_module("llama", tie_word_embeddings=tied))) > 0.1
    model = LanguageModel(adapted, tiny_tokenizer())
    assert difference(logits_of(model.module), expected) < 1e-4
    model.module.save_pretrained(tmp_path / "merged")
    tiny_tokenizer().save_pretrained(tmp_path / "merged")
    again = LanguageModel.from_pretrained(str(tmp_path / "merged"))
    assert difference(logits_of(again.module), expected) < 1e-4


# ---- what is refused


def test_adapters_of_other_models_are_one_sentence(folders, tmp_path, capsys):
    base, adapter = folders
    others = {
        "width": lora(ATTENTION, hidden_size=64),
        "depth": lora(ATTENTION, num_hidden_layers=6),
        "family": lora(["c_attn"], "gpt2"),
    }
    for name, other in others.items():
        other.save_pretrained(tmp_path / name)
        with pytest.raises(ModelError, match="another model") as caught:
            LanguageModel.from_pretrained(str(base), adapter=str(tmp_path / name))
        assert "\n" not in str(caught.value)
    values = json.loads((adapter / "adapter_config.json").read_text())
    config = {**values, "base_model_name_or_path": None}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert run_cli(["inspect", "--model", str(adapter)]) == 2
    (adapter / "adapter_config.json").write_text("{")
    assert run_cli(["inspect", "--model", str(adapter)]) == 2
    (adapter / "adapter_config.json").write_text(json.dumps(values))
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    assert run_cli(["inspect", "--model", str(adapter)]) == 2
    with pytest.raises(ModelError, match="no adapter"):
        LanguageModel.from_pretrained(str(base), adapter=str(tmp_path))
    err = capsys.readouterr().err
    assert err.count("Error: ") == 3
    assert "Traceback" not in err


def test_virtual_tokens_are_refused():
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(ModelError, match="virtual tokens"):
        LanguageModel(peft.get_peft_model(tiny_module("llama"), config), tiny_tokenizer())


def test_a_rotation_is_not_kept_beside():
    config = peft.OFTConfig(target_modules=["down_proj"], oft_block_size=4)
    with pytest.raises(ModelError, match="merge_adapter = true"):
        LanguageModel(
            peft.get_peft_model(tiny_module("llama"), config),
            tiny_tokenizer(),
            merge_adapter=False,
        )


def test_what_is_more_than_a_sum_is_not_kept_beside():
    config = peft.LoraConfig(r=2, target_modules=MLP, use_dora=True)
    adapted = peft.get_peft_model(tiny_module("llama"), config)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    with pytest.raises(ModelError, match="merge_adapter = true"):
        LanguageModel(adapted, tiny_tokenizer(), merge_adapter=False)
    expected = logits_of(adapted)
    assert difference(logits_of(LanguageModel(adapted, tiny_tokenizer()).module), expected) < 1e-4
