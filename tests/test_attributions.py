"""Attribution against its slow oracle, in every family and every form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.attributions import attribute_each, attribute_neurons, check_form, fixed_rule
from broca.attributions.branching import Path
from broca.model import LanguageModel
from plain_loop import attribute as plain_loop
from tiny import FAMILIES, TEXTS, tiny_model

POST_NORM = ("gemma2", "olmo2")
GENTLE = {"progress": False, "method": "gauss-legendre", "n_steps": 5}


@pytest.fixture(scope="module")
def asked():
    """Models with the tokens of three prompts of different lengths and their likeliest tokens."""
    made: dict[str, tuple] = {}

    def get(family: str) -> tuple[LanguageModel, list[list[int]], list[int]]:
        if family not in made:
            model = tiny_model(family)
            tokens = model.encode(TEXTS[:3])
            targets = [int(model.logits(model.pad([t]))[0, -1].argmax()) for t in tokens]
            made[family] = model, tokens, targets
        return made[family]

    return get


def largest_error(found: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def loop(model, tokens, targets, rule, **options) -> np.ndarray:
    found = [
        plain_loop(model, t, y, rule.nodes, rule.weights, **options)
        for t, y in zip(tokens, targets, strict=True)
    ]
    return torch.stack(found).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_plain_loop(asked, family):
    model, tokens, targets = asked(family)
    found = attribute_neurons(model, tokens, target=targets, **GENTLE)
    reference = loop(model, tokens, targets, fixed_rule("gauss-legendre", 5))
    assert largest_error(found.values, reference) < 1e-4
    assert found[0].form == ("rows" if family == "bloom" else "wavefront")


@pytest.mark.parametrize("family", FAMILIES)
def test_all_forms_agree(asked, family):
    model, tokens, targets = asked(family)
    forms = ["packed", "rows"] if family != "bloom" else ["rows"]
    fastest = attribute_neurons(model, tokens, target=targets, **GENTLE)
    for form in forms:
        found = attribute_neurons(model, tokens, target=targets, form=form, **GENTLE)
        assert found[0].form == form
        assert largest_error(found.values, fastest.values) < 1e-4
        np.testing.assert_allclose(found.p_zero, fastest.p_zero, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batches_equal_single_questions(asked, family):
    model, tokens, targets = asked(family)
    together = attribute_neurons(model, tokens, target=targets, **GENTLE)
    for number, (t, y) in enumerate(zip(tokens, targets, strict=True)):
        alone = attribute_neurons(model, [t], target=y, **GENTLE)
        assert largest_error(together.values[number], alone.values[0]) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_sum_to_the_measured_effect(asked, family):
    """P(1) - P(0), P(0) by a hook that puts 0 in place; post-norm blocks: the norm frozen."""
    model, tokens, targets = asked(family)
    found = attribute_neurons(model, tokens, target=targets, progress=False)
    for number, (t, y) in enumerate(zip(tokens, targets, strict=True)):
        one = float(model.logits(model.pad([t]))[0, -1].softmax(-1)[y])
        effects = []
        for layer in range(model.n_layers):
            if family in POST_NORM:
                zero = float(found.p_zero[number, layer])  # equal to the loop's, tested above
            else:

                def off(values):
                    return torch.cat([values[:, :-1], 0 * values[:, -1:]], 1)

                with model.touch("hidden", layer, off):
                    zero = float(model.logits(model.pad([t]))[0, -1].softmax(-1)[y])
            effects.append(one - zero)
        sums = found.values[number].sum(-1)
        worst = np.abs(sums - np.array(effects)).max() / np.abs(effects).max()
        assert worst <= 0.01
        assert found[number].completeness_error == pytest.approx(worst, abs=1e-4)
        assert found[number].converged


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_single_neurons_equal_a_converged_integral(asked, family):
    model, tokens, targets = asked(family)
    found = attribute_neurons(model, tokens[:1], target=targets[:1], progress=False)
    exact = loop(model, tokens[:1], targets[:1], fixed_rule("gauss-legendre", 64))
    assert largest_error(found.values, exact) < 0.02


def test_the_raw_path_over_a_norm_jumps_at_zero(asked):
    """P is constant above 0: the released rule reads the spike at 0, and the figures say so."""
    model, tokens, targets = asked("gemma2")
    options = {"method": "riemann-linspace", "n_steps": 6, "path": "raw", "progress": False}
    found = attribute_neurons(model, tokens, target=targets, **options)
    rule = fixed_rule("riemann-linspace", 6)
    reference = loop(model, tokens, targets, rule, path="raw")
    assert largest_error(found.values, reference) < 1e-4
    frozen = attribute_neurons(model, tokens, target=targets, progress=False)
    assert np.abs(found.values).max() > 20 * np.abs(frozen.values).max()
    assert not found.converged.any()
    assert found[0].path == "raw"
    assert frozen[0].path == "frozen-norm"
    for form in ("packed", "rows"):
        slower = attribute_neurons(model, tokens, target=targets, form=form, **options)
        assert largest_error(slower.values, reference) < 1e-4


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "phi3"])
def test_site_up(asked, family):
    model, tokens, targets = asked(family)
    found = attribute_neurons(model, tokens, target=targets, site="up", **GENTLE)
    if family != "phi3":  # its up is a part of a fused tensor, out of the plain loop's reach
        rule = fixed_rule("gauss-legendre", 5)
        reference = loop(model, tokens, targets, rule, site="up")
        assert largest_error(found.values, reference) < 1e-4
    hidden = attribute_neurons(model, tokens, target=targets, **GENTLE)
    gated = "gate" in model.sites
    assert found[0].form == ("wavefront" if gated else "packed")
    same_path = gated or family == "opt"  # ReLU, too, commutes with a factor
    assert (largest_error(found.values, hidden.values) < 1e-5) == same_path
    assert np.abs(found.convergence_delta).max() < 0.05


@pytest.mark.parametrize("method", ["riemann-right", "riemann-linspace", "midpoint"])
def test_rules_equal_the_plain_loop(asked, method):
    model, tokens, targets = asked("llama")
    found = attribute_neurons(
        model, tokens, target=targets, method=method, n_steps=7, progress=False
    )
    assert largest_error(found.values, loop(model, tokens, targets, fixed_rule(method, 7))) < 1e-4
    assert list(found.n_steps) == [7, 7, 7]


@pytest.mark.parametrize("rows", [3, 13])
@pytest.mark.parametrize("form", ["wavefront", "packed", "rows"])
def test_block_sizes_change_nothing(asked, rows, form):
    model, tokens, targets = asked("mistral")
    whole = attribute_neurons(model, tokens, target=targets, form=form, **GENTLE)
    cut = attribute_neurons(
        model, tokens, target=targets, form=form, internal_batch_size=rows, **GENTLE
    )
    assert largest_error(cut.values, whole.values) < 1e-5


def test_longer_prompts_than_the_window_matter(asked):
    """The window is shorter than the prompts: a form that lost it would not pass its check."""
    model, tokens, _ = asked("mistral")
    assert min(len(t) for t in tokens[:2]) > model.config.sliding_window
    for form in ("wavefront", "packed", "rows"):
        assert check_form(model, Path(), form).error < 1e-5


def test_one_token_prompt(asked):
    model, _, _ = asked("llama")
    found = attribute_neurons(model, [[5]], target=7, **GENTLE)
    reference = loop(model, [[5]], [7], fixed_rule("gauss-legendre", 5))
    assert largest_error(found.values, reference) < 1e-4


def test_each_yields_the_same_one_by_one(asked):
    model, tokens, targets = asked("llama")
    stacked = attribute_neurons(model, tokens, target=targets, **GENTLE)
    options = {k: v for k, v in GENTLE.items() if k != "progress"}
    for one, whole in zip(
        attribute_each(model, tokens, target=targets, **options), stacked, strict=True
    ):
        np.testing.assert_array_equal(one.values, whole.values)
        assert one.target == whole.target


def test_activations_are_the_values_at_the_last_position(asked):
    model, tokens, targets = asked("qwen2")
    found = attribute_neurons(model, tokens, target=targets, **GENTLE)
    seen = {}
    with model.touch("hidden", 2, lambda v: seen.__setitem__("v", v[0, -1])):
        model.logits(model.pad([tokens[1]]))
    np.testing.assert_allclose(found.activations[1, 2], seen["v"].numpy(), atol=1e-5)
