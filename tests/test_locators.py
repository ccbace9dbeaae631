"""Locators against their formulas, written out slowly on tiny models."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from broca.attributions.tails import freeze_norm
from broca.effects.aims import make_aims
from broca.effects.replacement import last_values
from broca.errors import AttributionError, EffectError
from broca.locators import LOCATORS, locate
from broca.locators.masks import MaskConfig, choose_settings, learn_masks
from broca.locators.masks.choose import RATES
from broca.locators.masks.objective import make_group
from broca.prompts import Prompt
from plain_ablation import all_effects
from plain_loop import hooks
from plain_loop import last_values as values_of
from tiny import TEXTS, tiny_model

PROMPTS = [Prompt(str(n), text, (" dog",), relation="r") for n, text in enumerate(TEXTS[:3])]
ANSWERS = (" dog", "zebra", "a", " city")
OTHERS = [Prompt(f"o{n}", text, ("x",), relation="s") for n, text in enumerate(TEXTS)]


def gradient_of(model, tokens, target, layer) -> torch.Tensor:
    """d log P / d hidden at the last position, by autograd through a whole forward pass."""
    values, _ = values_of(model, torch.tensor([tokens]), layer, "hidden")
    leaf = values.clone().requires_grad_()

    def put(module, args):
        rows = args[0].reshape(1, len(tokens), -1).clone()
        rows[:, -1] = leaf
        return (rows.reshape(args[0].shape),)

    with hooks(model.block(layer).down.register_forward_pre_hook(put)):
        logits = model.module(torch.tensor([tokens]), use_cache=False).logits[0, -1]
    return torch.autograd.grad(logits.log_softmax(-1)[target], leaf)[0]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "bloom", "opt"])
def test_gradients(family):
    model = tiny_model(family)
    aims = make_aims(model, PROMPTS, "answer")
    product, sign = (locate(model, PROMPTS, n) for n in ("gradient-activation", "gradient"))
    for number, listed in enumerate(aims):
        for layer in range(model.n_layers):
            wanted, signed = 0.0, 0.0
            for aim in listed:
                gradient = gradient_of(model, list(aim.tokens), aim.target, layer)
                values, _ = values_of(model, torch.tensor([aim.tokens]), layer, "hidden")
                wanted = wanted + (gradient * values).numpy()
                signed = signed + (gradient * values.sign()).numpy()
            largest = np.abs(product.values).max()
            np.testing.assert_allclose(product.values[number, layer], wanted, atol=1e-4 * largest)
            largest = np.abs(sign.values).max()
            np.testing.assert_allclose(sign.values[number, layer], signed, atol=1e-4 * largest)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "opt"])
def test_gradients_at_every_position(family):
    """Of the whole answer in one pass: by a leaf in place of a layer's values, and autograd."""
    model = tiny_model(family)
    found = locate(model, PROMPTS, "gradient-activation-everywhere")
    for number, listed in enumerate(make_aims(model, PROMPTS, "answer")):
        ids = torch.tensor([listed[-1].tokens])
        for layer in range(model.n_layers):
            leaves = []

            def put(module, args, leaves=leaves):
                leaves.append(args[0].detach().requires_grad_())
                return (leaves[0],)

            with hooks(model.block(layer).down.register_forward_pre_hook(put)):
                logits = model.module(ids, use_cache=False).logits[0, -len(listed) :]
            log_p = sum(a.read(row) for a, row in zip(listed, logits, strict=True))
            (gradient,) = torch.autograd.grad(log_p, leaves)
            wanted = (gradient * leaves[0]).detach().reshape(-1, found.values.shape[-1]).sum(0)
            largest = np.abs(found.values).max()
            np.testing.assert_allclose(
                found.values[number, layer], wanted.numpy(), atol=1e-4 * largest
            )


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_answers_under_masks(family, positions):
    """Against whole passes with hooks, one per token of each answer."""
    model = tiny_model(family)
    prompts = [Prompt(str(n), t, (a,)) for n, (t, a) in enumerate(zip(TEXTS, ANSWERS, strict=True))]
    aims = make_aims(model, prompts, "answer")
    assert len({len(listed) for listed in aims}) > 1
    width = model.widths["hidden"]
    masks = torch.rand(len(aims), model.n_layers, width, generator=torch.Generator().manual_seed(0))
    for shared in (False, True):
        group = make_group(model, aims, shared, positions)
        wanted, before = torch.zeros(2, 1 if shared else len(aims), dtype=torch.float64)
        for number, listed in enumerate(aims):
            mask = masks[0 if shared else number]
            row = 0 if shared else number
            for aim in listed:
                wanted[row] += _under(model, aim, mask, positions)
                before[row] += _under(model, aim, torch.ones_like(mask), positions)
        with torch.no_grad():
            found = group.log_p((masks[:1] if shared else masks).flatten(1))
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-4)
            np.testing.assert_allclose(group.before().numpy(), before.numpy(), atol=1e-4)


def _under(model, aim, mask, positions):
    """Log P of one token of an answer under a mask."""
    ids = torch.tensor([list(aim.tokens)])
    with torch.no_grad(), ExitStack() as stack:
        for layer in range(model.n_layers):

            def multiply(values, layer=layer):
                new = values.clone()
                where = slice(None) if positions == "all" else slice(-1, None)
                new[:, where] *= mask[layer]
                return new

            stack.enter_context(model.touch("hidden", layer, multiply))
        return aim.read(model.module(ids).logits[0, -1])


def test_frozen_norms_make_the_last_layer_linear():
    """Behind the last block there is the final norm alone: held, the gradient is its linear map."""
    model = tiny_model("llama")
    found = locate(model, PROMPTS[:1], "frozen-gradient-activation", target=7)
    tokens = model.encode([PROMPTS[0].text])[0]
    last, norm = model.n_layers - 1, model.module.model.norm
    with torch.no_grad():
        rows = {}
        handle = norm.register_forward_hook(lambda m, a, o: rows.update(x=a[0][:, -1], y=o[:, -1]))
        logits = model.module(torch.tensor([tokens])).logits[0, -1]
        handle.remove()
        frozen = freeze_norm(norm, rows["x"], rows["y"])
        weight = model.module.lm_head.weight
        by_logits = torch.eye(len(logits))[7] - logits.softmax(-1)
        by_rows = (by_logits @ weight) * frozen.gain[0]
        values, _ = values_of(model, torch.tensor([tokens]), last, "hidden")
        wanted = (by_rows @ model.value_weight(last)) * values
    np.testing.assert_allclose(found.values[0, last], wanted.numpy(), rtol=1e-3, atol=1e-6)
    plain = locate(model, PROMPTS[:1], "gradient-activation", target=7)
    assert np.abs(plain.values - found.values).max() > 1e-3


def test_exact_is_the_loss():
    model = tiny_model("olmo2")
    found = locate(model, PROMPTS[:1], "exact", target=9)
    tokens = model.encode([PROMPTS[0].text])[0]
    np.testing.assert_allclose(found.values[0], -all_effects(model, tokens, 9).numpy(), atol=2e-5)


def test_direct_increase():
    model = tiny_model("llama")
    found = locate(model, PROMPTS[:1], "direct", target=9)
    tokens = torch.tensor(model.encode([PROMPTS[0].text]))
    for layer, neuron in ((0, 5), (2, 11), (3, 40)):
        kept: dict[str, torch.Tensor] = {}
        block = model.block(layer)

        def keep(module, args, output, kept=kept):
            kept["out"] = (output[0] if isinstance(output, tuple) else output)[:, -1]

        def keep_hidden(module, args, output, kept=kept):
            kept["h"] = args[0][:, -1]

        with (
            torch.no_grad(),
            hooks(
                block.module.register_forward_hook(keep),
                block.down.register_forward_hook(keep_hidden),
            ),
        ):
            model.module(tokens)
            weight = model.value_weight(layer)
            before = kept["out"] - kept["h"] @ weight.T
            after = before + kept["h"][:, neuron, None] * weight[:, neuron]
            head, norm = model.module.lm_head, model.module.model.norm
            read = [head(norm(x)).log_softmax(-1)[0, 9] for x in (before, after)]
        assert found.values[0, layer, neuron] == pytest.approx(float(read[1] - read[0]), abs=2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_direct_increase_of_a_share(family):
    """The first ones by the first-order estimate as measured, the others as estimated."""
    model = tiny_model(family)
    whole = locate(model, PROMPTS[:1], "direct", target=9).values[0]
    part = locate(model, PROMPTS[:1], "direct", target=9, prefilter=0.25).values[0]
    width = whole.shape[1]
    for layer in range(model.n_layers):
        measured = np.isclose(part[layer], whole[layer], atol=1e-6)
        assert measured.sum() >= round(0.25 * width)
        estimated = np.abs(part[layer][~measured]).max(initial=0.0)
        assert estimated <= np.sort(np.abs(whole[layer]))[-1]
        assert np.corrcoef(part[layer], whole[layer])[0, 1] > 0.98


def test_contrasts():
    model = tiny_model()
    own, others = last_values(model, PROMPTS).numpy(), last_values(model, OTHERS).numpy()
    values = np.concatenate([own, others])[:, 2, 7]
    labels = np.arange(len(values)) < len(own)
    found = {
        name: locate(model, PROMPTS, name, others=OTHERS).values[0, 2, 7]
        for name in ("expertise", "mean-difference", "firing")
    }
    assert found["expertise"] == pytest.approx(average_precision_score(labels, values), abs=1e-6)
    spread = np.sqrt((own[:, 2, 7].var() * 3 + others[:, 2, 7].var() * 4) / 7)
    gap = own[:, 2, 7].mean() - others[:, 2, 7].mean()
    assert found["mean-difference"] == pytest.approx(gap / spread, rel=1e-4)
    a, b = (own[:, 2, 7] > 0).sum(), (others[:, 2, 7] > 0).sum()
    odds = np.log((a + 0.5) / (3 - a + 0.5)) - np.log((b + 0.5) / (4 - b + 0.5))
    assert found["firing"] == pytest.approx(odds, rel=1e-5)


@pytest.mark.parametrize("name", LOCATORS)
def test_every_locator_ranks_every_neuron(name):
    model = tiny_model("gemma2")
    settings = {"n_steps": 8} if name in ("slimming", "hard-concrete") else {}
    found = locate(model, PROMPTS, name, others=OTHERS, **settings)
    ranking = found.ranking(1)
    assert len(ranking) == model.n_layers * model.widths["hidden"]
    assert (np.diff(ranking.scores) <= 0).all()
    assert found.scores().method == name
    again = locate(model, PROMPTS, name, others=OTHERS, **settings)
    np.testing.assert_array_equal(again.values, found.values)


@pytest.mark.parametrize("gate", ["slimming", "hard-concrete"])
@pytest.mark.parametrize("goal", ["keep", "destroy"])
def test_masks_keep_or_destroy_with_the_budget(gate, goal):
    """The neurons found, and they alone: what the mask says is checked by whole passes."""
    model = tiny_model()
    aims = make_aims(model, PROMPTS[:2], [int(t) for t in _likeliest(model)])
    budget = 40
    warm = locate(model, PROMPTS[:2], "gradient-activation", target=_likeliest(model)).values
    config = MaskConfig(gate, goal, budget=budget)
    found = learn_masks(model, aims, config, warm=warm)
    assert found.kept == pytest.approx([budget] * 2, rel=1e-3)
    for number, listed in enumerate(aims):
        order = np.argsort(-found.scores[number].ravel())
        lost = [_lost(model, listed[0], order[:budget], goal)]
        rng = np.random.default_rng(number)
        for _ in range(5):
            lost.append(_lost(model, listed[0], rng.permutation(len(order))[:budget], goal))
        worst = min(lost[1:]) if goal == "keep" else max(lost[1:])
        assert lost[0] < worst if goal == "keep" else lost[0] > worst


def _likeliest(model) -> list[int]:
    return [int(model.logits(model.pad([t]))[0, -1].argmax()) for t in model.encode(TEXTS[:2])]


def _lost(model, aim, chosen, goal) -> float:
    """What log P loses with only the chosen neurons left, or without them."""
    kept = np.zeros(model.n_layers * model.widths["hidden"], bool)
    kept[chosen] = True
    kept = torch.from_numpy(kept if goal == "keep" else ~kept).view(model.n_layers, -1)
    ids = torch.tensor([list(aim.tokens)])
    with torch.no_grad(), ExitStack() as stack:
        before = aim.read(model.module(ids).logits[0, -1])
        for layer in range(model.n_layers):

            def mask(values, layer=layer):
                new = values.clone()
                new[:, -1] *= kept[layer]
                return new

            stack.enter_context(model.touch("hidden", layer, mask))
        return float(before - aim.read(model.module(ids).logits[0, -1]))


def test_a_shared_mask_spares_others():
    model = tiny_model()
    likeliest = _likeliest(model)
    own, others = (make_aims(model, PROMPTS[i : i + 1], likeliest[i]) for i in (0, 1))
    lost = []
    for weight in (0.0, 20.0):
        config = MaskConfig("slimming", "destroy", budget=20, others_weight=weight)
        found = learn_masks(model, own, config, shared=True, others=others)
        assert found.scores.shape == (1, model.n_layers, 48)
        order = np.argsort(-found.scores[0].ravel())[:20]
        lost.append(np.mean([_lost(model, a[0], order, "destroy") for a in others]))
    assert lost[1] < lost[0]


@pytest.mark.parametrize("goal", ["keep", "destroy"])
def test_settings_are_chosen_on_held_out_prompts(goal):
    """The rate whose first neurons, by whole passes, keep (or destroy) these prompts' answers."""
    model = tiny_model()
    aims = make_aims(model, PROMPTS[:2], _likeliest(model))
    warm = locate(model, PROMPTS[:2], "gradient-activation", target=_likeliest(model)).values
    config = MaskConfig("slimming", goal, budget=40, n_steps=20)
    found = choose_settings(model, aims, config, warm=warm, rates=(0.01, 0.1, 1.0))
    expected = []
    for rate in (0.01, 0.1, 1.0):
        learned = learn_masks(model, aims, replace(config, learning_rate=rate), warm=warm)
        lost = [
            _lost(model, listed[0], np.argsort(-scores.ravel(), kind="stable")[:40], goal)
            for listed, scores in zip(aims, learned.scores, strict=True)
        ]
        missed = lost if goal == "keep" else [max(0.0, config.floor - one) for one in lost]
        expected.append(float(np.mean(missed)))
    assert [one["lost"] for one in found.tried] == pytest.approx(expected, abs=1e-3)
    assert found.config.learning_rate == (0.01, 0.1, 1.0)[int(np.argmin(expected))]
    assert len(set(expected)) == 3


def test_a_shared_masks_settings_are_judged_on_prompts_it_did_not_see():
    model = tiny_model()
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[2]]
    aims = make_aims(model, prompts, 7)
    config = MaskConfig("slimming", "destroy", n_steps=10)
    found = choose_settings(model, aims, config, shared=True, rates=(0.1,), strengths=(1.0, 50.0))
    n = round(0.01 * model.identity.total("hidden"))
    for one in found.tried:
        tried = replace(config, strength=one["strength"])
        scores = learn_masks(model, aims[::2], tried, shared=True).scores.ravel()
        first = np.argsort(-scores, kind="stable")[:n]
        fallen = np.mean([_lost(model, aims[i][0], first, "destroy") for i in (1, 3)])
        assert one["lost"] == pytest.approx(max(0.0, config.floor - fallen), abs=1e-3)
    with pytest.raises(EffectError, match="at least two"):
        choose_settings(model, aims[:1], config, shared=True)


@pytest.mark.parametrize("answer", ["", "  "])
def test_a_border_alone_is_no_answer(answer):
    with pytest.raises(AttributionError, match="no answer with tokens"):
        locate(tiny_model(), [Prompt("p", TEXTS[0], (answer,))], "gradient")


def test_a_setting_may_be_called_method():
    model = tiny_model()
    found = locate(model, PROMPTS[:1], "ig", target=9, method="midpoint", n_steps=4)
    assert found.settings["method"] == "midpoint"


def test_what_was_chosen_is_written_into_the_set():
    model = tiny_model()
    held_out = [Prompt("h", "A quite different text", (" dog",))]
    found = locate(model, PROMPTS, "slimming", held_out=held_out, budget=30, n_steps=8)
    about = found.ranking(0, 30).settings
    assert about["learning_rate"] in RATES
    assert [one["learning_rate"] for one in about["chosen_on"]["tried"]] == list(RATES)
    assert (about["chosen_on"]["prompts"], about["budget"]) == (1, 30)
    given = locate(model, PROMPTS, "slimming", budget=30, n_steps=8).settings
    assert (given["learning_rate"], "chosen_on" in given) == (0.1, False)
    alike = locate(
        model, PROMPTS, "slimming", budget=30, n_steps=8, learning_rate=about["learning_rate"]
    )
    np.testing.assert_array_equal(alike.values, found.values)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: locate(m, PROMPTS, "magic"), "no locator"),
        (lambda m: locate(m, PROMPTS, "expertise"), "contrasts"),
        (lambda m: locate(m, PROMPTS, "slimming", budget=10_000), "budget"),
        (lambda m: locate(m, PROMPTS, "exact", replacement="mean"), "got none"),
        (lambda m: locate(m, PROMPTS, "hard-concrete", strength=-1.0), "strength"),
        (lambda m: locate(m, PROMPTS, "slimming", positions="first"), "positions"),
        (lambda m: locate(m, PROMPTS, "slimming", n_steps=1.5), "n_steps"),
        (lambda m: locate(m, PROMPTS, "slimming", budget=0), "at least 1"),
        (lambda m: locate(m, PROMPTS, "slimming", colour=1), "no setting 'colour'"),
        (lambda m: locate(m, PROMPTS, "random", budget=5), "It has none"),
        (lambda m: locate(m, PROMPTS, "slimming", held_out=PROMPTS[:1]), "among those"),
        (lambda m: locate(m, PROMPTS, "ig", held_out=OTHERS), "nothing to choose"),
        (lambda m: locate(m, PROMPTS, "direct", prefilter=3), "at most 1"),
        (lambda m: locate(m, PROMPTS, "direct", prefilter="all"), "at most 1"),
        (lambda m: locate(m, PROMPTS, "random", seed=-1), "seed"),
        (lambda m: locate(m, PROMPTS, "exact", dtype="float32"), "torch.float32"),
    ],
)
def test_bad_input_is_told_in_words(call, words):
    with pytest.raises(EffectError, match=words):
        call(tiny_model())
