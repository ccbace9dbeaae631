"""Attribution: rules, memory, precision, targets, refusals, and nothing left behind."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from broca.attributions import (
    attribute_answer_tokens,
    attribute_each,
    attribute_neurons,
    fixed_rule,
    nested_rules,
)
from broca.attributions import branching as branching_module
from broca.attributions.memory import RowBudget, blocks
from broca.attributions.rules import METHODS
from broca.errors import AttributionError, ModelError, PromptError
from broca.model import LanguageModel
from broca.prompts import Prompt
from tiny import TEXTS, tiny_model

QUICK = {"method": "gauss-legendre", "n_steps": 4, "progress": False}


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def tokens(model) -> list[list[int]]:
    return model.encode(TEXTS[:3])


def hook_count(model: LanguageModel) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.module.modules()
    )


# ---- rules


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("n_steps", [2, 5, 16])
def test_weights_sum_to_one(method, n_steps):
    rule = fixed_rule(method, n_steps)
    assert rule.weights.sum() == pytest.approx(1)
    assert rule.partner.sum() == pytest.approx(1)
    assert rule.n_steps == n_steps
    assert ((rule.nodes >= 0) & (rule.nodes <= 1)).all()


def test_rules_by_definition():
    np.testing.assert_allclose(fixed_rule("riemann-right", 4).nodes, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(fixed_rule("riemann-linspace", 5).nodes, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(fixed_rule("midpoint", 2).nodes, [0.25, 0.75])
    assert fixed_rule("gauss-legendre", 3).weights @ fixed_rule("gauss-legendre", 3).nodes ** 5 == (
        pytest.approx(1 / 6)
    )


def test_nested_rules_reuse_their_nodes():
    rules = nested_rules()
    assert [rule.n_steps for rule in rules] == [9, 17, 33, 65, 129]
    for coarse, fine in pairwise(rules):
        np.testing.assert_allclose(fine.nodes[: len(coarse.nodes)], coarse.nodes)
        np.testing.assert_allclose(fine.partner[: len(coarse.nodes)], coarse.weights)
    for rule in rules:
        assert rule.weights @ np.exp(rule.nodes) == pytest.approx(np.e - 1, abs=1e-7)
    assert rules[0].partner @ rules[0].nodes ** 3 == pytest.approx(0.25)


def test_auto_spends_nodes_only_where_they_are_needed():
    model = tiny_model("opt")
    tokens = model.encode(TEXTS)
    targets = [int(model.logits(model.pad([t]))[0, -1].argmax()) for t in tokens]
    found = attribute_neurons(model, tokens, target=targets, progress=False)
    assert found.converged.all()
    assert len(set(found.n_steps)) > 1
    limited = attribute_neurons(model, tokens, target=targets, n_steps=17, progress=False)
    assert limited.n_steps.max() == 17
    assert not limited.converged.all()  # what stays above its tolerance is told
    assert limited.converged_share == limited.converged.mean()
    for one, of_many in zip(found, attribute_each(model, tokens, target=targets), strict=True):
        assert one.n_steps == of_many.n_steps


def test_one_node_claims_nothing(model, tokens):
    found = attribute_neurons(
        model, tokens[:1], target=5, method="midpoint", n_steps=1, progress=False
    )
    assert not found.converged.any()


def test_without_effect(model, tokens):
    p = model.logits(model.pad([tokens[0]]))[0, -1].softmax(-1)
    module = tiny_model("llama", seed=1)
    with torch.no_grad():
        for layer in range(module.n_layers):
            module.block(layer).down.weight.zero_()
    found = attribute_neurons(module, tokens[:1], target=int(p.argmax()), progress=False)
    assert found.without_effect.all()
    assert found.n_steps[0] == 9
    assert np.isnan(found.converged_share)


def test_convergence_delta_as_captum_returns_it(model, tokens):
    found, delta = attribute_neurons(
        model, tokens, target=5, return_convergence_delta=True, **QUICK
    )
    expected = found.values.sum(-1) - (found.probability[:, None] - found.p_zero)
    np.testing.assert_allclose(delta, expected, atol=1e-6)


# ---- memory


def test_memory_shortage_halves_the_rows(model, tokens, monkeypatch):
    whole = attribute_neurons(model, tokens, target=5, **QUICK)
    sample = branching_module.Branches.sample
    sizes = []

    def scarce(self, form, layers, factors, with_gradients):
        sizes.append(len(self.base) * len(layers) * len(factors))
        if sizes[-1] > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, form, layers, factors, with_gradients)

    monkeypatch.setattr(branching_module.Branches, "sample", scarce)
    found = attribute_neurons(model, tokens, target=5, **QUICK)
    np.testing.assert_allclose(found.values, whole.values, atol=1e-6)
    assert sizes[0] > 6
    assert max(sizes[-4:]) <= 6


def test_a_single_row_too_much_is_told():
    def fail(rows):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(AttributionError, match="single branch row"):
        RowBudget(8).fit(fail)


def test_other_errors_are_not_mistaken_for_memory():
    def fail(rows):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        RowBudget(8).fit(fail)


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 24, 30, 1000])
def test_blocks_cover_everything_once(rows):
    seen = np.zeros((3, 4, 6), dtype=int)
    for prompts, layers, steps in blocks(3, 4, 6, rows):
        seen[
            prompts.start : prompts.stop, layers.start : layers.stop, steps.start : steps.stop
        ] += 1
        assert len(prompts) * len(layers) * len(steps) <= rows
    assert (seen == 1).all()


# ---- nothing left behind


def test_hooks_and_attention_are_restored(model, tokens, monkeypatch):
    before = model.logits(model.pad(tokens))
    implementation = model.config._attn_implementation
    hooks = hook_count(model)

    def interrupted(self, logits, targets):
        raise KeyboardInterrupt

    attribute_neurons(model, tokens, target=5, **QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(branching_module.Path, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attribute_neurons(model, tokens, target=5, **QUICK)

    def broken(*args, **kwargs):
        raise ZeroDivisionError

    layer = model.layers[2]
    handle = layer.register_forward_pre_hook(broken)
    with pytest.raises(ZeroDivisionError):
        attribute_neurons(model, tokens, target=5, **QUICK)
    handle.remove()
    assert model.config._attn_implementation == implementation
    assert hook_count(model) == hooks
    assert not any("forward" in vars(layer) for layer in model.layers)
    assert torch.equal(model.logits(model.pad(tokens)), before)


def test_an_error_inside_the_wavefront_restores_the_attention(model, tokens):
    attribute_neurons(model, tokens, target=5, **QUICK)
    implementation = model.config._attn_implementation
    calls = []

    def broken_on_branches(module, args):
        calls.append(args)
        if len(calls) > 1:
            raise ZeroDivisionError

    handle = model.layers[3].register_forward_pre_hook(broken_on_branches)
    with pytest.raises(ZeroDivisionError):
        attribute_neurons(model, tokens, target=5, **QUICK)
    handle.remove()
    assert model.config._attn_implementation == implementation


# ---- precision


def test_half_precision_models_are_attributed_in_float32(tokens):
    half, full = tiny_model("llama"), tiny_model("llama")
    for parameter in half.module.parameters():  # as from_pretrained does: buffers stay float32
        parameter.data = parameter.data.bfloat16()
    weights = [p.clone() for p in half.module.parameters()]
    full.module.load_state_dict({k: v.float() for k, v in half.module.state_dict().items()})
    found = attribute_neurons(half, tokens, target=5, **QUICK)
    expected = attribute_neurons(full, tokens, target=5, **QUICK)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-7)
    assert found.agreement is None
    for before, after in zip(weights, half.module.parameters(), strict=True):
        assert after.dtype == torch.bfloat16
        assert torch.equal(before, after)


def test_half_precision_on_demand_tells_its_agreement(model, tokens):
    before = [p.clone() for p in model.module.parameters()]
    found = attribute_neurons(model, tokens, target=5, dtype="bfloat16", **QUICK)
    exact = attribute_neurons(model, tokens[:1], target=5, **QUICK)
    error = np.abs(found.values[0] - exact.values[0]).max() / np.abs(exact.values[0]).max()
    assert found.agreement == pytest.approx(error, rel=1e-4)
    assert found.agreement > 1e-4
    assert all(torch.equal(a, b) for a, b in zip(before, model.module.parameters(), strict=True))


# ---- targets


def test_the_likelier_variant_of_the_answer_is_the_target(model):
    prompt = Prompt("q", "the capital of France is the city of", ("B",))
    found = attribute_neurons(model, [prompt], **QUICK)[0]
    p = model.probabilities([prompt.text])[0]
    variants = [model.tokenizer(prompt.text + border + "B").input_ids[-1] for border in (" ", "")]
    assert found.target == (max(variants, key=lambda token: float(p[token])),)
    assert found.probability == pytest.approx(float(p[found.target[0]]), rel=1e-4)
    assert found.prompt_id == "q"


def test_answer_tokens_sum_over_the_answer(model):
    prompt = Prompt("q", "the capital of France is", ("unused",))
    answer = [40, 50, 60]
    (found,) = attribute_answer_tokens(model, [prompt], answers=[answer])
    start = model.encode([prompt.text])[0]
    log_p = model.logits(model.pad([[*start, *answer]]), 4)[0].log_softmax(-1)
    expected = sum(float(log_p[i, token]) for i, token in enumerate(answer))
    assert found.probability == pytest.approx(expected, rel=1e-4)
    assert found.target == tuple(answer)
    (first,) = attribute_answer_tokens(model, [prompt], answers=[answer[:1]])
    assert first.probability == pytest.approx(float(log_p[0, answer[0]]), rel=1e-4)
    effect = found.probability - found.p_zero
    assert np.abs(found.values.sum(-1) - effect).max() / np.abs(effect).max() < 0.02
    assert found.converged


def test_a_free_form_answer_by_default_is_the_prompts_own(model):
    prompt = Prompt("q", "the capital of France is the city of", ("lazy dog",))
    (found,) = attribute_answer_tokens(model, [prompt])
    text = model.tokenizer.decode(found.target)
    assert text.strip() == "lazy dog"


# ---- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "q"}, "site"),
        ({"path": "curved"}, "path"),
        ({"method": "simpson"}, "method"),
        ({"form": "fast"}, "form"),
        ({"internal_batch_size": 0}, "internal_batch_size"),
        ({"n_steps": 5}, "n_steps=5"),
        ({"method": "riemann-linspace", "n_steps": 1}, "at least 2"),
        ({"dtype": "int8"}, "dtype"),
        ({"target": "everything"}, "target"),
        ({"target": [1, 2]}, "2 target"),
        ({"target": 100_000}, "vocabulary"),
    ],
)
def test_unknown_settings(model, tokens, options, message):
    with pytest.raises(AttributionError, match=message):
        attribute_neurons(model, tokens, progress=False, **{"target": 5, **options})


def test_texts_without_answers(model):
    with pytest.raises(AttributionError, match="no answer"):
        attribute_neurons(model, ["the lazy dog"], progress=False)
    with pytest.raises(AttributionError, match="no prompt"):
        attribute_neurons(model, [], target=5, progress=False)


def test_answers_of_several_tokens_are_sent_elsewhere(model):
    prompt = Prompt("q", "the capital of France is", ("Zanzibar",))
    with pytest.raises(AttributionError, match="attribute_answer_tokens"):
        attribute_neurons(model, [prompt], progress=False)


def test_prompts_beyond_the_context(model):
    with pytest.raises(PromptError, match="takes 256"):
        attribute_neurons(model, [[5] * 300], target=5, progress=False)


def test_probabilities_that_are_not_finite(tokens):
    model = tiny_model("llama")
    attribute_neurons(model, tokens, target=5, **QUICK)
    with torch.no_grad():
        model.module.get_input_embeddings().weight[tokens[1][3]] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        attribute_neurons(model, tokens, target=5, **QUICK)


def test_a_form_that_fails_its_check_is_refused():
    model = tiny_model("bloom")
    with pytest.raises(AttributionError, match="packed"):
        attribute_neurons(model, [[5, 6, 7]], target=5, form="packed", progress=False)
