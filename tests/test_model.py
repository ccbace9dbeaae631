"""Sites, primitives and self-check on tiny models of many families."""

from __future__ import annotations

import pytest
import torch

from broca.errors import ModelError, NeuronError, PromptError
from broca.model import LanguageModel, Layout, Part
from broca.model.check import recorded
from tiny import FAMILIES, TEXTS, tiny_model, tiny_module, tiny_tokenizer

FAMILIES_WITH_NORMED_QK = {"Qwen3ForCausalLM", "Olmo2ForCausalLM"}
IDS = [1, 40, 77, 150, 201, 33, 90, 41, 60]  # longer than the sliding window


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request):
    return tiny_model(request.param)


def test_widths_are_those_of_the_tensors(model):
    batch = model.pad([IDS, IDS[:4]])
    with recorded(model, model.sites) as seen:
        model.logits(batch)
    for site, width in model.widths.items():
        for layer in range(model.n_layers):
            assert seen[site, layer].shape == (2, len(IDS), width)


def test_self_check(model):
    check = model.self_check()
    assert check.untouched_bit_equal
    assert check.padding_holds, check
    assert check.resumes
    assert check.mlp_error < 1e-5


def test_hidden_edit_moves_down_by_its_value_vector(model):
    """Hand arithmetic: hidden_i doubled adds hidden_i times column i of W to `down`."""
    batch = model.pad([IDS])
    for layer in (0, model.n_layers - 1):
        with recorded(model, ("hidden", "down")) as before:
            model.logits(batch)

        def double(tensor):
            tensor = tensor.clone()
            tensor[..., 5] *= 2
            return tensor

        with model.touch("hidden", layer, double), recorded(model, ("down",)) as after:
            model.logits(batch)
        moved = before["hidden", layer][..., 5:6] * model.value_weight(layer)[:, 5]
        torch.testing.assert_close(
            after["down", layer] - before["down", layer], moved, atol=2e-5, rtol=1e-4
        )


def test_down_edit_of_the_last_layer_moves_the_logits(model):
    """Hand arithmetic through the model's own final norm and head, last layer."""
    batch = model.pad([IDS])
    last = model.n_layers - 1
    kept = {}

    def keep_output(module, args, output):
        kept["out"] = output[0] if isinstance(output, tuple) else output

    handle = model.layers[last].register_forward_hook(keep_output)
    shift = torch.linspace(-1, 1, model.widths["down"])
    plain = model.logits(batch)
    base = kept["out"].clone()
    with model.touch("down", last, lambda t: t + shift):
        edited = model.logits(batch)
    moved = kept["out"]
    handle.remove()
    if model.block(last).post_mlp_norm is None:
        torch.testing.assert_close(moved - base, shift.expand_as(base), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(edited, plain)


@pytest.mark.parametrize("site", ["q", "k", "v"])
def test_attention_sites_are_what_the_attention_reads(model, site):
    """Zeroing v of every head leaves only biases; zeroing q or k makes attention uniform."""
    batch = model.pad([IDS])
    with model.touch("v", 0, torch.zeros_like), recorded(model, ("o",)) as seen:
        model.logits(batch)
    out = seen["o", 0]
    torch.testing.assert_close(out, out[:, :1].expand_as(out), atol=1e-6, rtol=1e-5)
    if site == "v" or FAMILIES_WITH_NORMED_QK & {type(model.module).__name__}:
        return
    with model.touch(site, 0, torch.zeros_like), recorded(model, ("o", "v")) as seen:
        model.logits(batch)
    o_module = model.block(0).source("o")
    heads, kv_heads = model.block(0).head_counts
    values = seen["v", 0].unflatten(-1, (kv_heads, -1)).repeat_interleave(heads // kv_heads, 2)
    mean = values[:, :2].mean(1).flatten(-2)  # the second token sees two tokens, window or not
    if "Bloom" not in type(model.module).__name__:  # ALiBi is not uniform
        torch.testing.assert_close(seen["o", 0][:, 1], o_module(mean), atol=2e-5, rtol=1e-4)


def test_gate_edit_by_hand():
    """Zeroing gate_i of SiLU-gated blocks zeroes hidden_i, and nothing else at that layer."""
    for family in ("llama", "phi3", "gemma2"):
        model = tiny_model(family)
        batch = model.pad([IDS])

        def zero(tensor):
            tensor = tensor.clone()
            tensor[..., 7] = 0
            return tensor

        with recorded(model, ("hidden",)) as before:
            model.logits(batch)
        with model.touch("gate", 1, zero), recorded(model, ("hidden",)) as after:
            model.logits(batch)
        expected = before["hidden", 1].clone()
        expected[..., 7] = 0
        torch.testing.assert_close(after["hidden", 1], expected, atol=1e-6, rtol=1e-5)


def test_hooks_are_gone_after_an_exception(model):
    batch = model.pad([IDS])
    before = model.logits(batch)

    def fail(tensor):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), model.touch("hidden", 1, fail):
        model.logits(batch)
    assert torch.equal(before, model.logits(batch))


def test_layers_run_on_given_rows_equal_the_whole_pass(model):
    batch = model.pad(model.encode(TEXTS))
    whole = model.run(batch, keep_inputs=[2], use_cache=True)
    rest = model.run(batch, start=2, rows=whole.inputs[2], use_cache=True)
    torch.testing.assert_close(rest.logits, whole.logits, atol=1e-6, rtol=1e-5)
    assert rest.keys_values[0] is None
    torch.testing.assert_close(rest.keys_values[3][0], whole.keys_values[3][0])


def test_keys_and_values_carry_a_next_token(model):
    batch = model.pad([IDS[:-1]])
    done = model.run(batch, use_cache=True)
    full = model.pad([IDS])
    step = type(batch)(full.ids[:, -1:], full.attention_mask[:, -1:], full.position_ids[:, -1:])
    next_token = model.run(step, past=done.keys_values, past_mask=batch.attention_mask)
    torch.testing.assert_close(next_token.logits, model.logits(full), atol=1e-5, rtol=1e-4)
    assert done.keys_values[0][0].shape[2] == len(IDS) - 1  # never changed in place


def test_a_layout_that_does_not_fit_is_refused():
    module = tiny_module("llama")
    swapped = Layout(
        down="mlp.down_proj",
        up=Part("mlp.gate_proj"),
        gate=Part("mlp.up_proj"),
        activation="mlp.act_fn",
    )
    with pytest.raises(ModelError, match="hidden is not act"):
        LanguageModel(module, tiny_tokenizer(), layout=swapped)
    with pytest.raises(ModelError, match=r"no mlp\.nothing"):
        LanguageModel(
            module, tiny_tokenizer(), layout=Layout(down="mlp.nothing", up=Part("mlp.up_proj"))
        )


def test_an_unknown_mlp_is_refused_with_the_cure():
    module = tiny_module("llama")
    for layer in module.model.layers:
        layer.strange = layer.mlp
        del layer.mlp
    with pytest.raises(ModelError, match=r"layout=broca\.Layout"):
        LanguageModel(module, tiny_tokenizer())


def test_a_missing_layer_is_refused():
    module = tiny_module("llama")
    module.config.num_hidden_layers = 3
    with pytest.raises(ModelError, match="decoder blocks"):
        LanguageModel(module, tiny_tokenizer())


def test_loading_and_its_errors(tmp_path):
    module = tiny_module("llama")
    module.save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    loaded = LanguageModel.from_pretrained(str(tmp_path / "m"))
    original = LanguageModel(module, tiny_tokenizer())
    batch = original.pad([IDS])
    assert torch.equal(loaded.logits(batch), original.logits(batch))
    assert loaded.identity.fingerprint == original.identity.fingerprint
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model"):
        LanguageModel.from_pretrained(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no other file"):
        LanguageModel.from_pretrained(__file__)


def test_fingerprint_sees_one_changed_weight():
    module = tiny_module("llama")
    before = LanguageModel(module, tiny_tokenizer()).identity.fingerprint
    module.model.layers[2].mlp.down_proj.weight.data[3, 11] += 1e-3
    assert LanguageModel(module, tiny_tokenizer()).identity.fingerprint != before


def test_prompts_and_places_that_do_not_fit():
    model = tiny_model("llama")
    with pytest.raises(PromptError, match="takes 256"):
        model.encode(["a cat " * 300])
    with (
        pytest.raises(NeuronError, match="no layer 9"),
        model.touch("hidden", 9, lambda t: None),
    ):
        pass
    with (
        pytest.raises(NeuronError, match="no site 'gate'"),
        tiny_model("gpt2").touch("gate", 0, lambda t: None),
    ):
        pass


def test_padding_that_is_wrong_beyond_a_block_is_not_used(monkeypatch):
    """A model whose padded rows are wrong at 65 tokens alone, as on some GPUs."""
    from broca.model import drive

    model = tiny_model("llama")
    assert model.drive.pads
    forward = model.module.forward

    def wrong(*args, **inputs):
        output = forward(*args, **inputs)
        padded = inputs["attention_mask"] is not None and not inputs["attention_mask"].all()
        if padded and inputs["input_ids"].shape[1] == 65:
            output.logits = output.logits.roll(1, -1)
        return output

    monkeypatch.setattr(model.module, "forward", wrong)
    assert drive.measure_drive(model).pads
    monkeypatch.setattr(drive, "in_blocks", lambda device: True)
    assert not drive.measure_drive(model).pads
