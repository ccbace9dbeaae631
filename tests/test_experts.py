"""Experts from finding to editing: responses, controls, a planted mixture, routing held or free."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from broca.attributions import attribute_neurons
from broca.edits import save_edited
from broca.edits.weights import edited
from broca.errors import NeuronError
from broca.interventions import Deactivate, Fix, Scale, intervene
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.model.families import build_tiny
from broca.neurons import Neuron, NeuronIndex, NeuronSet
from broca.prompts import Prompt
from broca.responses import record_responses
from broca.scores import score_expertise
from tiny import tiny_tokenizer

TEXTS = (
    "the capital of France is the city of",
    "the capital of the river is the city of",
    "one two three four five six",
    "one two four five six seven eight",
    "a cat",
    "a fox jumps",
)


def prompts() -> list[Prompt]:
    return [Prompt(id=str(n), text=text, answers=("A",)) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module", params=["olmoe", "qwen2_moe", "llama4_text"])
def model(request):
    return LanguageModel(build_tiny(request.param), tiny_tokenizer(), name=request.param)


def by_hand(model, layer: int, text: str) -> np.ndarray:
    """Mean over the tokens that reach an expert, from the wide tensor; NaN where none does."""
    seen = []
    with torch.no_grad(), model.watch("hidden", layer, lambda t: seen.append(t[0].clone())):
        model.logits(model.pad(model.encode([text])))
    experts = model.block(layer).experts
    values = seen[0][:, : experts.total].unflatten(1, (experts.number, experts.width))
    found = np.full((experts.number, experts.width), np.nan)
    for expert in range(experts.number):
        reached = values[:, expert].any(-1)
        if reached.any():
            found[expert] = values[reached, expert].mean(0)
    rest = seen[0][:, experts.total :].mean(0).numpy()
    return np.concatenate([found.ravel(), rest])


def test_responses_are_pooled_over_the_tokens_that_reach_an_expert(model):
    responses = record_responses(model, prompts(), ("hidden",), batch_size=4)
    for layer in (0, model.n_layers - 1):
        block = responses.block("hidden", layer)
        for row, text in enumerate(TEXTS):
            expected = by_hand(model, layer, text)
            np.testing.assert_allclose(block[row], expected, rtol=1e-3, atol=1e-5)
        shares = responses.reached("hidden", layer)
        width = model.block(layer).experts.width
        experts = range(model.block(layer).experts.number)
        by_rows = [1 - np.isnan(block[:, e * width]).mean() for e in experts]
        np.testing.assert_allclose(shares, by_rows)


def test_a_prompt_that_never_reaches_an_expert_counts_as_lowest():
    model = LanguageModel(build_tiny("olmoe"), tiny_tokenizer())
    responses = record_responses(model, prompts(), ("hidden",), pooling="last")
    positive = np.array([True, True, False, False, False, False])
    scores = score_expertise(responses, positive)
    flat = np.concatenate([responses.block("hidden", layer) for layer in range(4)], axis=1)
    lowest = np.where(np.isnan(flat), -1e30, flat)
    from sklearn.metrics import average_precision_score

    for neuron in range(0, flat.shape[1], 37):
        expected = average_precision_score(positive, lowest[:, neuron])
        assert scores.values[neuron] == pytest.approx(expected)
    assert np.isnan(flat).any()


def test_matched_neurons_belong_to_experts_used_as_often():
    model = LanguageModel(build_tiny("olmoe"), tiny_tokenizer())
    responses = record_responses(model, prompts(), ("hidden",), pooling="last")
    positive = np.array([True, True, False, False, False, False])
    found = score_expertise(responses, positive).top(40)
    use = np.array(found.settings["expert_use"])
    drawn = found.matched_random(0)
    assert drawn.counts() == found.counts()
    assert not len(drawn & found)
    for ours, theirs in zip(_uses(found, use), _uses(drawn, use), strict=True):
        assert np.abs(np.sort(ours) - np.sort(theirs)).max() <= 0.5
    mean = [np.mean(np.concatenate(_uses(s, use))) for s in (found, drawn)]
    assert abs(mean[0] - mean[1]) <= 0.1


def _uses(neurons: NeuronSet, use: np.ndarray) -> list[np.ndarray]:
    found = []
    for _, layer in neurons.counts():
        here = neurons.only(layer=layer)
        width = neurons.identity.experts[layer].width
        found.append(use[layer][here.indices // width])
    return found


@pytest.mark.parametrize("positions", ["all", "last", (-2,)])
@pytest.mark.parametrize("kind", ["scale", "fix", "off"])
def test_slots_equal_the_wide_tensor(model, positions, kind):
    """Interventions slot by slot against a function on all experts side by side."""
    layer = 1
    width = model.identity.width("hidden", layer)
    neurons = [Neuron("hidden", layer, i) for i in range(1, width, 3)]
    chosen = NeuronSet.of(neurons, model.identity)
    values = tuple(float(i % 5) - 2 for i in range(len(neurons)))
    change = {
        "scale": Scale(chosen, 1.7, positions),
        "fix": Fix(chosen, values, positions),
        "off": Deactivate(chosen, positions),
    }[kind]
    experts = model.block(layer).experts

    def wide(tensor: torch.Tensor) -> torch.Tensor:
        new, tokens = tensor.clone(), range(tensor.shape[1])
        at = (
            {"all": tokens, "last": [-1]}.get(positions, positions)
            if isinstance(positions, str)
            else positions
        )
        for rank, neuron in enumerate(neurons):
            for token in at:
                old = tensor[:, token, neuron.index]
                expert = neuron.index // experts.width
                part = slice(expert * experts.width, (expert + 1) * experts.width)
                part = part if expert < experts.number else slice(experts.total, None)
                reached = tensor[:, token, part].any(-1)
                to = {"scale": old * 1.7, "off": old * 0, "fix": old * 0 + values[rank]}[kind]
                new[:, token, neuron.index] = torch.where(reached, to, old)
        return new

    batch = model.pad([[1, 40, 77, 150], [1, 33, 90, 41]])
    with torch.no_grad(), intervene(model, change):
        found = model.logits(batch)
    with torch.no_grad(), model.touch("hidden", layer, wide):
        expected = model.logits(batch)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert not torch.equal(found, model.logits(batch))


def test_rows_of_a_batch_are_edited_apart(model):
    first = NeuronSet.of([Neuron("hidden", 0, i) for i in range(60)], model.identity)
    second = NeuronSet.of([Neuron("hidden", 2, i) for i in range(60)], model.identity)
    rows = [Deactivate(first), None, Scale(second, 2.0)]
    batch = model.pad([[1, 40, 77, 150]] * 3)
    with torch.no_grad(), intervene(model, rows=rows):
        found = model.logits(batch)
    for row, change in enumerate(rows):
        with torch.no_grad(), intervene(model, change):
            alone = model.logits(model.pad([[1, 40, 77, 150]]))
        torch.testing.assert_close(found[row : row + 1], alone, atol=2e-5, rtol=1e-4)


def test_expert_weights_are_edited_in_a_copy_and_put_back(model):
    chosen = NeuronSet.of([Neuron("hidden", 1, i) for i in range(0, 70, 2)], model.identity)
    batch = model.pad([[1, 40, 77, 150, 201]])
    before = model.logits(batch)
    with torch.no_grad(), intervene(model, Scale(chosen, 0.5)):
        by_hook = model.logits(batch)
    with edited(model, Scale(chosen, 0.5)):
        by_weights = model.logits(batch)
    assert float((by_hook - by_weights).abs().max()) <= 1e-5 * float(before.abs().max())
    assert torch.equal(model.logits(batch), before)


def test_places_in_arrays_are_places_in_layers_of_unequal_width():
    model = LanguageModel(build_tiny("deepseek_v3"), tiny_tokenizer())
    widest = model.identity.width("hidden")
    index = NeuronIndex(model.identity, ("hidden",))
    assert model.identity.layer_widths("hidden")[0] < widest
    grid = np.array([5, 2 * widest + 7, 3 * widest + widest - 1])
    assert list(index.select(index.from_grid(grid))) == [
        Neuron("hidden", 0, 5),
        Neuron("hidden", 2, 7),
        Neuron("hidden", 3, widest - 1),
    ]
    with pytest.raises(NeuronError, match="outside of its layer"):
        index.from_grid(np.array([widest - 1]))


# ---- a planted mixture


POSITIVE = ("the capital of France is the city of", "the capital of the fox is the city of")
NEGATIVE = (
    "one two three four",
    "one two four five",
    "a cat jumps",
    "five six seven",
    "a lazy dog",
)
LAYER, UNIT, TARGET = 2, 11, 5


@pytest.fixture(scope="module")
def planted():
    """A neuron of one expert fires on the positive prompts' last token and writes the target."""
    module = build_tiny("olmoe")
    model = LanguageModel(module, tiny_tokenizer(), name="planted")
    experts, entering, routing = model.block(LAYER).experts, {}, {}

    def keep(text):
        def hook(module, args):
            entering[text] = args[0][0, -1].clone()

        return hook

    for text in (*POSITIVE, *NEGATIVE):
        handle = model.block(LAYER).mlp.register_forward_pre_hook(keep(text))

        def route(kept, text=text):
            routing[text] = kept[0][-1].tolist()

        with torch.no_grad(), experts.rerouted(route):
            model.logits(model.pad(model.encode([text])))
        handle.remove()
    expert = next(e for e in routing[POSITIVE[0]] if e in routing[POSITIVE[1]])
    mean = torch.stack([entering[t] for t in POSITIVE]).mean(0)
    others = torch.stack([entering[t] for t in NEGATIVE])
    axis = mean - others.mean(0)
    axis = axis / (axis @ mean)
    with torch.no_grad():
        gate_up, down = experts.module.gate_up_proj, experts.module.down_proj
        gate_up[expert, UNIT] = 6 * axis
        gate_up[expert, experts.width + UNIT] = 6 * axis
        head = module.get_output_embeddings().weight
        down[expert, :, UNIT] = 1.2 * head[TARGET] / head[TARGET].norm()
    again = LanguageModel(module, tiny_tokenizer(), name="planted")
    return again, Neuron("hidden", LAYER, expert * experts.width + UNIT)


def test_the_planted_expert_neuron_is_found_by_attribution(planted):
    model, neuron = planted
    found = attribute_neurons(model, list(POSITIVE), target=TARGET, progress=False)
    for item in found.items:
        layer = item.values[neuron.layer]
        assert int(layer.argmax()) == neuron.index
        assert item.completeness_error <= 0.01


def test_the_planted_expert_neuron_is_found_by_average_precision(planted):
    model, neuron = planted
    listed = [Prompt(id=t, text=t, answers=("A",)) for t in (*POSITIVE, *NEGATIVE)]
    responses = record_responses(model, listed, ("hidden",), pooling="last")
    positive = np.array([t in POSITIVE for t in (*POSITIVE, *NEGATIVE)])
    scores = score_expertise(responses, positive)
    flat = responses.index.flatten(NeuronSet.of([neuron], model.identity))[0]
    assert scores.values[flat] == 1.0
    assert (scores.values == 1.0).mean() < 0.25  # few others reach it by chance of seven prompts


def test_switching_it_off_takes_the_answer_and_routing_is_told_apart(planted):
    model, neuron = planted
    chosen = NeuronSet.of([neuron], model.identity)
    batch = model.pad(model.encode([POSITIVE[0]]))
    before = float(model.logits(batch)[0, -1].softmax(-1)[TARGET])
    with torch.no_grad(), intervene(model, Deactivate(chosen)):
        after = float(model.logits(batch)[0, -1].softmax(-1)[TARGET])
    assert after < 0.5 * before
    listed = [Prompt(id=t, text=t, answers=("A",)) for t in POSITIVE]
    whole = NeuronSet.of([Neuron("hidden", 0, i) for i in range(192)], model.identity)
    told = {
        routing: [
            row.log_p
            for row in answer_prompts(
                model, listed, {"off": Deactivate(whole)}, border=" ", routing=routing
            )
        ]
        for routing in ("free", "frozen")
    }
    assert np.abs(np.subtract(told["free"], told["frozen"])).max() > 1e-3
    nothing = {
        routing: [
            row.log_p
            for row in answer_prompts(
                model, listed, {"same": Scale(whole, 1.0)}, border=" ", routing=routing
            )
        ]
        for routing in ("free", "frozen")
    }
    np.testing.assert_allclose(nothing["free"], nothing["frozen"], atol=1e-5)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss"])
def test_a_saved_copy_of_an_edit_of_experts_is_read_back(family, tmp_path):
    """In plain transformers, with neurons of experts and of a shared expert and a whole expert."""
    model = LanguageModel(build_tiny(family), tiny_tokenizer(), name=family)
    layer = max(n for n, block in enumerate(model.blocks) if block.experts is not None)
    experts, width = model.block(layer).experts, model.identity.width("hidden", layer)
    whole = [Neuron("hidden", layer, experts.width + i) for i in range(experts.width)]
    single = [Neuron("hidden", layer, i) for i in {0, 5, 2 * experts.width + 3, width - 1}]
    changes = [
        Deactivate(NeuronSet.of(whole, model.identity)),
        Scale(NeuronSet.of(single, model.identity), 2.0),
    ]
    before = {name: weight.clone() for name, weight in model.module.state_dict().items()}
    save_edited(model, changes, tmp_path / "copy")
    for name, weight in model.module.state_dict().items():
        assert torch.equal(weight, before[name]), name
    copy = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "copy").eval()
    ids = torch.tensor([[1, 40, 77, 150, 201, 33, 90, 41, 60]])
    with torch.no_grad():
        found = copy(ids).logits
        with intervene(model, *changes):
            expected = model.module(ids).logits
        plain = model.module(ids).logits
    assert float((found - expected).abs().max()) <= 1e-5 * float(plain.abs().max())
    assert float((found - plain).abs().max()) > 1e-3
