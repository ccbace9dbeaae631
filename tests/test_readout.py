"""Reading a neuron: final norm and unembedding found, tokens by hand, firings, the command."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.errors import ModelError, NeuronError
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronSet
from broca.prompts import Prompt, render_fact_prompts
from broca.readout import find_firings, find_unembedding, read_values
from broca.store import RunFolder
from planted import Planted, planted_world
from tiny import FAMILIES, TEXTS, tiny_model


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted_world()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_way_to_the_logits_is_the_models_own(family):
    model = tiny_model(family)
    found = find_unembedding(model)
    rows: list[torch.Tensor] = []

    def keep(module, args, output):
        rows[:] = [output[0] if isinstance(output, tuple) else output]

    handle = model.layers[-1].register_forward_hook(keep)
    logits = model.logits(model.pad(model.encode(TEXTS[:1])), logits_to_keep=5)
    handle.remove()
    assert torch.allclose(found.logits(rows[0][:, -5:]), logits, atol=1e-5)
    assert found.error <= 1e-5
    assert found.cap == (30.0 if family == "gemma2" else None)


def test_a_model_without_a_final_norm_has_none():
    found = find_unembedding(tiny_model("opt", do_layer_norm_before=False))
    assert found.norm is None
    assert found.error <= 1e-5


def test_a_factor_on_the_logits_is_measured():
    model = tiny_model()
    head = model.module.get_output_embeddings()
    handle = model.module.register_forward_hook(scale_logits)
    assert find_unembedding(model).factor == pytest.approx(0.25, rel=1e-4)
    handle.remove()
    assert find_unembedding(model).head is head


def scale_logits(module, args, output):
    output.logits = output.logits * 0.25
    return output


def test_logits_that_are_changed_otherwise_are_refused():
    model = tiny_model()
    handle = model.module.register_forward_hook(bend_logits)
    with pytest.raises(ModelError, match="do not give the model's logits"):
        find_unembedding(model)
    handle.remove()


def bend_logits(module, args, output):
    output.logits = output.logits**3
    return output


def test_tokens_of_a_llama_neuron_by_hand():
    model = tiny_model("llama")
    inner = model.module.model
    vector = inner.layers[2].mlp.down_proj.weight[:, 7].double()
    normed = vector / (vector.square().mean() + inner.norm.variance_epsilon).sqrt()
    scores = model.module.lm_head.weight.double() @ (normed * inner.norm.weight.double())
    read = read_values(model, [Neuron("hidden", 2, 7)], n_tokens=5)[0]
    assert [t.id for t in read.top] == scores.argsort(descending=True)[:5].tolist()
    assert [t.id for t in read.bottom] == scores.argsort()[:5].tolist()
    assert read.top[0].score == pytest.approx(float(scores.max()), rel=1e-4)
    lengths = inner.layers[2].mlp.down_proj.weight.norm(dim=0)
    assert read.length == pytest.approx(float(lengths[7] / lengths.mean()), rel=1e-5)


def test_biases_of_gpt2_are_taken_off():
    model = tiny_model("gpt2")
    inner = model.module.transformer
    vector = inner.h[2].mlp.c_proj.weight[7].double()  # Conv1D: rows
    centred = vector - vector.mean()
    normed = centred / (centred.square().mean() + inner.ln_f.eps).sqrt()
    scores = model.module.lm_head.weight.double() @ (normed * inner.ln_f.weight.double())
    read = read_values(model, [Neuron("hidden", 2, 7)], n_tokens=3)[0]
    assert [t.id for t in read.top] == scores.argsort(descending=True)[:3].tolist()
    assert read.top[0].score == pytest.approx(float(scores.max()), rel=1e-4)


def test_gemma_value_vectors_pass_the_norm_behind_the_mlp():
    model = tiny_model("gemma2")
    block, found = model.block(1), find_unembedding(model)
    vector = model.value_weight(1)[:, 4]
    expected = found.raw(block.post_mlp_norm(vector)).argsort(descending=True)[:4]
    read = read_values(model, [Neuron("hidden", 1, 4)], n_tokens=4)[0]
    assert [t.id for t in read.top] == expected.tolist()


def test_planted_letter_neurons_say_their_letters(world):
    model = world.language_model()
    letters = [(letter, n) for letter, neurons in world.letters.items() for n in neurons]
    read = read_values(model, [neuron for _, neuron in letters], n_tokens=2)
    for (letter, _), each in zip(letters, read, strict=True):
        assert {token.token.strip() for token in each.top} == {letter}


def test_gate_and_up_stand_for_their_unit_and_other_sites_are_refused():
    model = tiny_model()
    hidden, gate = read_values(model, [Neuron("hidden", 1, 3), Neuron("gate", 1, 3)])
    assert hidden.top == gate.top
    for name, words in (
        ("down:1:3", "no value vector"),
        ("hidden:1:48", "no neuron"),
        ("hidden:4:1", "no layer"),
    ):
        with pytest.raises(NeuronError, match=words):
            read_values(model, [Neuron.parse(name)])
    with pytest.raises(NeuronError, match="no site"):
        read_values(tiny_model("gpt2"), [Neuron("gate", 1, 3)])


@pytest.mark.parametrize("name", ["hidden:1:5", "down:2:3", "q:0:4"])
def test_firings_equal_one_prompt_at_a_time(name):
    model, neuron = tiny_model("mistral"), Neuron.parse(name)
    prompts = [Prompt(str(i), text, ("x",)) for i, text in enumerate(TEXTS)]
    found = find_firings(model, neuron, prompts, batch_size=3)
    assert [abs(f.value) for f in found] == sorted((abs(f.value) for f in found), reverse=True)
    for firing in found:
        seen: list[torch.Tensor] = []
        with model.touch(neuron.site, neuron.layer, lambda t, seen=seen: seen.append(t)):
            model.logits(model.pad(model.encode([firing.prompt.text])))
        values = seen[0][0, :, neuron.index].numpy()
        assert np.allclose(firing.values, values, atol=1e-5)
        assert firing.position == int(np.abs(values).argmax())
        assert len(firing.tokens) == len(values)
        assert "".join(firing.tokens[1:]) == firing.prompt.text  # behind <bos>


def test_a_planted_neuron_fires_on_its_relation_only(world):
    model = world.language_model()
    neuron = next(n for n in world.planted["office"] if n not in world.shared)
    firings = find_firings(model, neuron, render_fact_prompts(world.relations()))
    n_own = sum(firing.prompt.relation == "office" for firing in firings)
    assert {f.prompt.relation for f in firings[:n_own]} == {"office"}


def test_the_command_shows_tokens_firings_and_sets(world, tmp_path, capsys):
    from broca.cli import run_cli

    world.module.save_pretrained(tmp_path / "model")
    world.tokenizer.save_pretrained(tmp_path / "model")
    model = LanguageModel.from_pretrained(str(tmp_path / "model"))
    neuron = world.planted["office"][0]
    with RunFolder.create(tmp_path / "run", {"studies": []}) as folder:
        relations = world.relations(names=("office", "maker"))
        folder.add_prompts(render_fact_prompts(relations))
        unit = [Neuron("gate", neuron.layer, neuron.index)]
        folder.save_set(NeuronSet.of(unit, model.identity, name="office"))
        folder.save_set(NeuronSet.of(world.common[:2], model.identity, name="other"))
    capsys.readouterr()
    command = ["neuron", str(neuron), "--model", str(tmp_path / "model")]
    assert run_cli([*command, "--run", str(tmp_path / "run"), "--top", "4"]) == 0
    printed = capsys.readouterr().out
    served = printed.split("that hold it")[1]
    assert "raises" in printed
    assert "strongest" in printed
    assert "office" in served
    assert "other" not in served
    assert run_cli([*command[:1], "hidden:9:0", *command[2:]]) == 2
    assert run_cli([*command[:1], "hidden", *command[2:]]) == 2
    assert run_cli([*command, "--run", str(tmp_path / "nothing")]) == 2
