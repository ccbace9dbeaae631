"""Mixtures of experts, hybrids and awkward families against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.answers import find_targets
from broca.attributions import attribute_neurons, fixed_rule
from broca.errors import ModelError
from broca.interventions import Deactivate, Fix, Scale, intervene
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.model.families import build_tiny
from broca.neurons import Neuron, NeuronSet
from broca.prompts import Prompt
from plain import plain_log_p
from plain_experts import attribute_plain, experts_of
from tiny import tiny_tokenizer

EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "deepseek_v3", "llama4_text")
HYBRIDS = ("nemotron_h", "lfm2", "bamba", "falcon_h1", "qwen3_5_text")
AWKWARD = ("falcon", "openai-gpt", "gemma3n_text", "hyperclovax", "bart")
IDS = [1, 40, 77, 150, 201, 33]
_KNOWN: dict[str, LanguageModel] = {}


def model_of(family: str) -> LanguageModel:
    if family not in _KNOWN:
        _KNOWN[family] = LanguageModel(build_tiny(family), tiny_tokenizer(), name=family)
    return _KNOWN[family]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def plain_logits(model: LanguageModel, ids=IDS) -> torch.Tensor:
    with torch.no_grad():
        return model.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


# ---- experts


def expert_neurons(model: LanguageModel) -> list[Neuron]:
    """Neurons of every expert of the first and last layer that has some, and shared ones."""
    found = []
    layers = [n for n, block in enumerate(model.blocks) if block.experts is not None]
    for layer in (layers[0], layers[-1]):
        experts = model.block(layer).experts
        for expert in range(experts.number):
            found += [Neuron("hidden", layer, expert * experts.width + i) for i in (0, 3, 7)]
        if model.identity.width("hidden", layer) > experts.total:
            found.append(Neuron("hidden", layer, experts.total + 2))
    return found


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_scaled_expert_neurons_are_scaled_value_vectors(family, factor):
    """The family's own experts with weights changed by hand, without any function set."""
    model = model_of(family)
    neurons = expert_neurons(model)
    before = plain_logits(model)
    change = Scale(NeuronSet.of(neurons, model.identity), factor)
    with torch.no_grad(), intervene(model, change):
        found = model.logits(model.pad([IDS]), len(IDS))[0]
    kept = []
    with torch.no_grad():
        for _, layer, index in neurons:
            module = experts_of(model.layers[layer])
            down, total = module.down_proj, model.block(layer).experts.total
            if index >= total:
                column = model.block(layer).down.weight[:, index - total]
            else:
                expert, unit = divmod(index, total // down.shape[0])
                stored_out_last = getattr(module, "is_transposed", True)
                column = down[expert, unit] if stored_out_last else down[expert, :, unit]
            kept.append((column, column.clone()))
            column *= factor
        try:
            expected = plain_logits(model)
        finally:
            for column, old in kept:
                column.copy_(old)
    assert relative(expected, before) > 1e-3  # something was edited
    assert relative(found, expected) <= 1e-5
    assert torch.equal(plain_logits(model), before)


@pytest.mark.parametrize("family", EXPERTS)
def test_whole_experts(family):
    """A whole expert off is an expert whose value vectors are zeros; biases of its output stay."""
    model = model_of(family)
    layer = max(n for n, block in enumerate(model.blocks) if block.experts is not None)
    experts = model.block(layer).experts
    whole = NeuronSet.of(
        [Neuron("hidden", layer, experts.width + i) for i in range(experts.width)], model.identity
    )
    with torch.no_grad(), intervene(model, Deactivate(whole)):
        found = model.logits(model.pad([IDS]), len(IDS))[0]
    weight = experts.module.down_proj.data
    old = weight[1].clone()
    weight[1] = 0
    expected = plain_logits(model)
    weight[1] = old
    assert relative(found, expected) <= 1e-5


def test_fixed_expert_neurons_act_where_the_expert_is_reached():
    model = model_of("mixtral")
    chosen = NeuronSet.of([Neuron("hidden", 1, 2 * 48 + 5)], model.identity)
    seen = []
    watching = model.watch("hidden", 1, lambda t: seen.append(t.clone()))
    with torch.no_grad(), intervene(model, Fix(chosen, 3.0)), watching:
        model.logits(model.pad([IDS]))
    values = seen[0][0, :, 2 * 48 + 5]
    reached = seen[0][0, :, 2 * 48 : 3 * 48].any(-1)
    assert (values[reached] == 3.0).all()
    assert 0 < int(reached.sum()) < len(reached)
    assert not values[~reached].any()


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_attribution_of_experts_equals_a_plain_loop(family, where):
    model = model_of(family)
    layer = {"first": 0, "middle": 2, "last": model.n_layers - 1}[where]
    rule = fixed_rule("gauss-legendre", 6)
    target = int(plain_logits(model)[-1].argmax())
    found = attribute_neurons(
        model, [IDS], target=[target], method="gauss-legendre", n_steps=6, progress=False
    )
    expected = attribute_plain(model, IDS, target, layer, rule).numpy()
    values = found.items[0].values[layer]
    largest = np.abs(expected).max()
    assert np.abs(values[: len(expected)] - expected).max() <= 1e-4 * largest
    assert not values[len(expected) :].any()


@pytest.mark.parametrize("family", EXPERTS)
def test_attributions_of_experts_sum_to_the_effect(family):
    model = model_of(family)
    target = int(plain_logits(model)[-1].argmax())
    found = attribute_neurons(model, [IDS], target=[target], progress=False)
    assert found.items[0].completeness_error <= 0.01
    assert found.items[0].n_steps <= 33


def test_routing_frozen_and_free_are_told_apart():
    """Along free routing P jumps where the experts of a layer above change: sums do not hold."""
    model = model_of("mixtral")
    held = attribute_neurons(model, [IDS], target=[5], progress=False).items[0]
    free = attribute_neurons(model, [IDS], target=[5], routing="free", progress=False).items[0]
    assert held.completeness_error <= 0.01 < free.completeness_error


# ---- all of them


def prompts() -> list[Prompt]:
    texts = ("a cat", "the capital of France is the city of", "one two three", "one two four")
    answers = ("A", "the", "four five", "B")
    return [
        Prompt(id=str(n), text=text, answers=(answer,))
        for n, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]


@pytest.mark.parametrize("family", EXPERTS + HYBRIDS + AWKWARD)
def test_answers_equal_brute_force(family):
    """Log P and greedy tokens against single prompts without padding, cache or layers passed."""
    model = model_of(family)
    middle = [n for n, w in enumerate(model.identity.layer_widths("hidden")) if w][1]
    neurons = NeuronSet.of(
        [Neuron("hidden", middle, i) for i in range(0, model.identity.width("hidden", middle), 3)],
        model.identity,
    )
    conditions = {"untouched": None, "off": Deactivate(neurons)}
    asked = answer_prompts(model, prompts(), conditions, border=" ")
    rows = {(r.condition, r.prompt): r for r in asked}
    for name, change in conditions.items():
        for prompt, target in zip(prompts(), find_targets(model, prompts(), " "), strict=True):
            row = rows[name, prompt.id]
            context = intervene(model, change) if change else intervene(model, None)
            with context:
                ids = list(target.prompt)
                for said in row.ids:
                    logits = plain_logits(model, ids)[-1]
                    assert logits[said] >= logits.max() - 1e-4
                    ids.append(said)
                expected = plain_log_p(model, list(target.prompt), list(target.measured[0]))
            assert row.log_p == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("family", HYBRIDS + AWKWARD)
def test_layers_of_other_kinds_sum_to_the_effect(family):
    model = model_of(family)
    target = int(plain_logits(model)[-1].argmax())
    found = attribute_neurons(model, [IDS], target=[target], progress=False).items[0]
    assert found.completeness_error <= 0.01
    for layer, width in enumerate(model.identity.layer_widths("hidden")):
        if not width:
            assert not found.values[layer].any()
            continue

        def off(values):
            return torch.cat([values[:, :-1], 0 * values[:, -1:]], 1)

        if model.block(layer).post_mlp_norm is None:
            with torch.no_grad(), model.touch("hidden", layer, off):
                zero = float(plain_logits(model)[-1].softmax(-1)[target])
            assert found.p_zero[layer] == pytest.approx(zero, abs=1e-5)


# ---- what is refused


@pytest.mark.parametrize("part", ["", "model", "model.layers.1", "model.layers.1.mlp"])
@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_what_is_compiled_after_loading_is_refused(kind: str, part: str):
    module = build_tiny(kind)
    model = LanguageModel(module, tiny_tokenizer())
    neurons = NeuronSet.of([Neuron("hidden", 1, i) for i in range(20)], model.identity)
    with intervene(model, Deactivate(neurons)):
        pass
    module.get_submodule(part).compile(backend="eager")
    with (
        pytest.raises(ModelError, match="compiled after it was loaded"),
        intervene(model, Deactivate(neurons)),
    ):
        pass


def test_a_layer_replaced_by_a_compiled_one_is_refused():
    module = build_tiny("llama")
    model = LanguageModel(module, tiny_tokenizer())
    module.model.layers[1] = torch.compile(module.model.layers[1], backend="eager")
    with (
        pytest.raises(ModelError, match="compiled after it was loaded"),
        model.watch("hidden", 1, lambda values: None),
    ):
        pass


def test_compiled_models_are_reached_through_or_refused():
    module = build_tiny("llama")
    plain = LanguageModel(module, tiny_tokenizer())
    compiled = LanguageModel(torch.compile(module, backend="eager"), tiny_tokenizer())
    assert compiled.module is module
    neurons = NeuronSet.of([Neuron("hidden", 1, i) for i in range(20)], plain.identity)
    with torch.no_grad(), intervene(plain, Deactivate(neurons)):
        expected = plain.logits(plain.pad([IDS]))
    with torch.no_grad(), intervene(compiled, Deactivate(neurons)):
        assert torch.equal(compiled.logits(compiled.pad([IDS])), expected)
    assert LanguageModel(torch.nn.DataParallel(module), tiny_tokenizer()).module is module
    module.model.layers[1] = torch.compile(module.model.layers[1], backend="eager")
    with pytest.raises(ModelError, match="compiled and runs no hooks"):
        LanguageModel(module, tiny_tokenizer())
    inside = build_tiny("llama")
    inside.model.layers[2].compile(backend="eager")
    with pytest.raises(ModelError, match="compiled and runs no hooks"):
        LanguageModel(inside, tiny_tokenizer())


class _Deaf(torch.nn.Module):
    """Keeps a copy of a block and computes with it, whatever happens to the block."""

    def __init__(self, block):
        super().__init__()
        import copy

        self.block = block
        self.__dict__["copy"] = copy.deepcopy(block)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, *args, **kwargs):
        self.block(*args, **kwargs)
        return self.__dict__["copy"](*args, **kwargs)


def test_a_wrapper_that_computes_with_its_own_weights_is_refused():
    module = build_tiny("llama")
    for number, block in enumerate(module.model.layers):
        module.model.layers[number] = _Deaf(block)
    with pytest.raises(ModelError):
        LanguageModel(module, tiny_tokenizer())


def test_encoders_and_models_that_read_both_ways_are_refused_by_name():
    with pytest.raises(ModelError, match="bert is an encoder"):
        LanguageModel(build_tiny("bert"), tiny_tokenizer())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_not_called_wrong(dtype):
    model = LanguageModel(build_tiny("llama").to(dtype), tiny_tokenizer())
    check = model.self_check()
    assert check.padding_holds
    assert check.resumes


def test_fused_projections_are_told_by_arithmetic():
    bigcode = model_of("gpt_bigcode")
    assert [bigcode.widths[s] for s in "qkv"] == [32, 8, 8]
    codegen = model_of("codegen")
    assert codegen.block(0).parts["v"].cut == "fours-1"
    assert [model_of("falcon").widths[s] for s in "qkv"] == [32, 8, 8]


def test_a_norm_behind_the_mlp_is_found_whatever_its_name():
    assert model_of("hyperclovax").block(0).post_mlp_norm is not None
    assert model_of("hyperclovax").block(0).multiplier == pytest.approx(0.6, rel=1e-3)
    assert not model_of("gemma3n_text").block(0).linear


def test_coverage_is_told():
    for family in ("llama", "mixtral", "deepseek_v3", "nemotron_h"):
        assert model_of(family).coverage.complete, model_of(family).coverage
    assert str(model_of("nemotron_h").coverage).endswith("2 of 4 layers")
