"""Exact effects against the plain loop, in every family, form and kind of replacement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from broca.effects import Effect, Effects, ablate_each, ablate_sets
from broca.effects.nearby import LIMITS, near
from broca.effects.nearby import TOLERANCE as OF_SUM
from broca.effects.reading import make_reader
from broca.effects.replacement import last_values
from broca.errors import AttributionError, EffectError
from broca.facts import load_relations
from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.model.branches import base_pass
from broca.neurons import NeuronIndex
from broca.prompts import ChoicePrompt, Prompt, render_fact_prompts
from plain_ablation import all_effects, log_p
from tiny import FAMILIES, TEXTS, disturb, tiny_model, tiny_tokenizer

TOLERANCE = 1e-5  # of log P


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


def looped(model, tokens, targets, value=None) -> np.ndarray:
    found = [all_effects(model, t, y, value) for t, y in zip(tokens, targets, strict=True)]
    return torch.stack(found).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_plain_loop(asked, family):
    """Every neuron of every layer; windows, post-norms, parallel blocks and biases included."""
    model, tokens, targets = asked(family)
    found = ablate_each(model, tokens, target=targets, progress=False)
    expected = looped(model, tokens, targets)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found.values, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert found[0].form == ("rows" if family == "bloom" else "wavefront")


def test_equals_the_plain_loop_on_atlas():
    model = LanguageModel.from_pretrained("atlas")
    prompt = render_fact_prompts(load_relations("atlas"))[700]
    found = ablate_each(model, [prompt], progress=False)
    tokens, target = model.encode([prompt.text]), found[0].target
    assert found.values.size == 3072
    np.testing.assert_allclose(
        found.values, looped(model, tokens, target), atol=TOLERANCE, rtol=TOLERANCE
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_all_forms_agree(asked, family):
    model, tokens, targets = asked(family)
    fastest = ablate_each(model, tokens[:1], target=targets[:1], progress=False)
    for form in ["packed", "rows"] if family != "bloom" else ["rows"]:
        found = ablate_each(model, tokens[:1], target=targets[:1], form=form, progress=False)
        assert found[0].form == form
        np.testing.assert_allclose(found.values, fastest.values, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_mean_and_resample(asked, family):
    model, tokens, targets = asked(family)
    reference = tokens[1:]
    values = last_values(model, reference)
    expected = {
        "mean": looped(model, tokens[:1], targets[:1], values.mean(0)),
        "resample": looped(model, tokens[:1], targets[:1], values[1]),
    }
    for kind, wanted in expected.items():
        listed = reference if kind == "mean" else reference[1:]
        found = ablate_each(
            model, tokens[:1], kind, reference=listed, target=targets[:1], progress=False
        )
        assert found[0].replacement == kind
        np.testing.assert_allclose(found.values, wanted, atol=TOLERANCE, rtol=TOLERANCE)


def test_resample_takes_another_prompt_of_another_relation():
    model = tiny_model()
    prompts = [
        Prompt(str(n), text, (" A",), relation=r)
        for n, (text, r) in enumerate(zip(TEXTS, "rrss", strict=True))
    ]
    values = last_values(model, prompts)
    found = ablate_each(
        model, prompts[:1], "resample", reference=prompts[:3], target=5, progress=False
    )
    tokens = model.encode([TEXTS[0]])
    wanted = looped(model, tokens, [5], values[2])
    np.testing.assert_allclose(found.values, wanted, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom"])
def test_block_size_changes_nothing(asked, family):
    model, tokens, targets = asked(family)
    whole = ablate_each(model, tokens[:1], target=targets[:1], progress=False)
    for rows in (1, 7):
        cut = ablate_each(
            model, tokens[:1], target=targets[:1], internal_batch_size=rows, progress=False
        )
        np.testing.assert_allclose(cut.values, whole.values, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_the_head_is_read_in_blocks(asked, family):
    """The streamed sum equals whole logits, and so it does far from the untouched logits."""
    model, tokens, targets = asked(family)
    reader = make_reader(model)
    assert reader.unembedding is not None
    found = ablate_each(model, tokens[:1], target=targets[:1], progress=False)
    wide = torch.randn(5, model.widths["down"]) * torch.logspace(-2, 4, 5)[:, None]
    head = reader.unembedding.head
    logits = reader._finished(head(wide)).double()
    for shift in (float(logits.max()), 500.0, -500.0):
        sums = reader._logsumexp(wide, shift)
        torch.testing.assert_close(sums, logits.logsumexp(-1), atol=1e-4, rtol=1e-6)
    np.testing.assert_allclose(
        found.before[0], log_p(model, torch.tensor(tokens[:1]), targets[0]).numpy()[0], atol=1e-6
    )


@pytest.mark.parametrize("prefix", ["Llama", "Cohere", "Phi"])
def test_the_sum_near_the_untouched_row(prefix):
    """By moments it equals the whole sum, in float64, wherever the third order is small; factors of
    logits (Cohere) and biases of heads (Phi) included. Far rows are told."""
    config = getattr(transformers, f"{prefix}Config")(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    module = getattr(transformers, f"{prefix}ForCausalLM")(config).eval()
    disturb(module, 0)
    model = LanguageModel(module, tiny_tokenizer(), name=prefix)
    tokens = model.encode(TEXTS[:1])
    reader = make_reader(model)
    base = base_pass(model, model.pad(tokens[:1]))
    nearby = near(reader.unembedding, base, 10**6)
    assert nearby is not None
    assert 0.01 < nearby.rest < 1
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-4, 1, 60)[:, None]
    rows = nearby.row + torch.randn(60, len(nearby.row), generator=generator) * sizes
    found, third = nearby.log_sums(rows)
    head = reader.unembedding.head
    logits = rows.double() @ head.weight.double().T
    logits = logits if head.bias is None else logits + head.bias.double()
    error = (found - (logits * reader.unembedding.factor).logsumexp(-1)).abs()
    assert (third <= LIMITS[0]).sum() >= 15
    assert error[third <= LIMITS[0]].max() < OF_SUM
    assert error[-1] > OF_SUM or third[-1] > LIMITS[0]
    read = reader._log_sums(rows, float(base.logits.max()), nearby)
    wanted = (logits * reader.unembedding.factor).logsumexp(-1)
    torch.testing.assert_close(read, wanted, atol=5e-6, rtol=1e-6)


def test_moments_that_do_not_hold_are_not_believed(asked):
    model, tokens, _ = asked("llama")
    reader = make_reader(model)
    base = base_pass(model, model.pad(tokens[:1]))
    nearby = near(reader.unembedding, base, 10**6)
    assert nearby is not None
    wrong = replace(nearby, mean=nearby.mean + 1.0, covariance=0 * nearby.covariance)
    rows = nearby.row + 0.01 * torch.randn(30, len(nearby.row))
    shift = float(base.logits.max())
    torch.testing.assert_close(
        reader._log_sums(rows, shift, wrong), reader._logsumexp(rows, shift), atol=0, rtol=0
    )


def test_few_rows_and_capped_logits_are_read_whole(asked):
    for family, n_rows in (("llama", 5), ("gemma2", 10**6)):
        model, tokens, _ = asked(family)
        base = base_pass(model, model.pad(tokens[:1]))
        assert near(make_reader(model).unembedding, base, n_rows) is None


def test_answers_of_several_tokens_are_summed():
    model = tiny_model()
    prompt = Prompt("p", TEXTS[1], ("lazy dog",))
    found = ablate_each(model, [prompt], progress=False)[0]
    assert len(found.target) > 1
    tokens = model.encode([prompt.text])[0]
    expected, before = 0.0, 0.0
    for number, token in enumerate(found.target):
        so_far = [*tokens, *found.target[:number]]
        expected = expected + all_effects(model, so_far, token).numpy()
        before += float(log_p(model, torch.tensor([so_far]), token))
    np.testing.assert_allclose(found.values, expected, atol=3 * TOLERANCE)
    assert found.before == pytest.approx(before, abs=1e-5)


def test_margin_of_a_letter():
    model = tiny_model("gemma2")
    prompt = ChoicePrompt(
        "q",
        TEXTS[0] + " Answer:",
        ("B",),
        options=("x", "y", "z"),
        labels=("A", "B", "C"),
        answer=1,
    )
    found = ablate_each(model, [prompt], target="margin", progress=False)[0]
    assert found.objective == "margin"
    tokens = torch.tensor(model.encode([prompt.text]))
    letters = [model.tokenizer.convert_tokens_to_ids(form) for l in "AC" for form in (l, f"Ġ{l}")]

    def margin(logits):
        return float(logits[found.target[0]] - logits[letters].max())

    assert found.before == pytest.approx(margin(model.module(tokens).logits[0, -1]), abs=1e-5)
    for layer, neuron in ((0, 3), (2, 17), (3, 40)):

        def off(values, neuron=neuron):
            values = values.clone()
            values[:, -1, neuron] = 0
            return values

        with model.touch("hidden", layer, off):
            after = margin(model.module(tokens).logits[0, -1])
        assert found.values[layer, neuron] == pytest.approx(after - found.before, abs=2e-5)


def test_prefilter_measures_the_first_and_a_sample(asked):
    model, tokens, targets = asked("llama")
    whole = ablate_each(model, tokens[:1], target=targets[:1], progress=False)[0]
    part = ablate_each(
        model, tokens[:1], target=targets[:1], prefilter=0.25, sample=40, progress=False
    )[0]
    total = whole.values.size
    assert part.sampled is not None
    assert part.sampled.sum() == 40
    assert part.measured.sum() == round(0.25 * total) + 40
    np.testing.assert_allclose(
        part.values[part.measured], whole.values[part.measured], atol=TOLERANCE
    )
    truth, found = set(whole.order()[:10].tolist()), set(part.order()[:10].tolist())
    assert len(truth & found) >= 8
    bound = part.missed(10)
    threshold = np.sort(np.abs(part.values[part.measured & ~part.sampled]))[-10]
    missing = ~part.measured
    assert bound.sampled == 40
    assert (np.abs(whole.values[missing]) >= threshold).sum() <= bound.count
    assert bound.largest == np.abs(part.values[part.sampled]).max()


def test_the_bound_on_what_was_missed_holds_at_its_level():
    """Simulated: neurons left out of which a known share is large."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        truth = np.abs(rng.normal(size=1000)) * 0.1
        truth[:50] = 1.0
        truth[900:930] = 2.0  # 3 % of the rest, unseen by the ranking
        sampled = np.zeros(1000, bool)
        sampled[rng.choice(np.arange(100, 1000), 60, replace=False)] = True
        values = np.where(sampled | (np.arange(1000) < 100), truth, np.nan)[None]
        one = Effect(
            "", (0,), values, truth[None], 0.0, "log-probability", "zero", "", sampled[None]
        )
        left = ~sampled & (np.arange(1000) >= 100)
        held += (truth[left] >= 1.0).sum() <= one.missed(20).count
    assert held / 400 >= 0.93


def test_top_and_files(asked, tmp_path):
    model, tokens, targets = asked("llama")
    found = ablate_each(model, tokens, target=targets, prefilter=0.5, sample=5, progress=False)
    neurons = found.top(7, prompt=1, by="loss")
    flat = found.values[1].ravel()
    assert (np.diff(neurons.scores) >= 0).all()
    assert neurons.scores[0] == np.nanmin(flat)
    again = Effects.load(found.save(tmp_path / "effects.safetensors"))
    np.testing.assert_array_equal(again.values, found.values)
    np.testing.assert_array_equal(again[0].sampled, found[0].sampled)
    assert again.identity == found.identity
    assert again[2].target == found[2].target
    with pytest.raises(EffectError, match="measured"):
        found.top(10_000)
    (tmp_path / "no.safetensors").write_bytes(b"nonsense")
    with pytest.raises(EffectError, match="malformed"):
        Effects.load(tmp_path / "no.safetensors")


@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom"])
def test_sets_equal_whole_passes(asked, family):
    model, tokens, targets = asked(family)
    index = NeuronIndex(model.identity, ("hidden",))
    ranking = index.select(np.random.default_rng(0).permutation(len(index))[:40])
    found = ablate_sets(model, tokens, ranking, (1, 5, 40), target=targets)
    for row, (t, y) in enumerate(zip(tokens, targets, strict=True)):
        ids = torch.tensor([t])
        assert found.before[row] == pytest.approx(float(log_p(model, ids, y)), abs=1e-5)
        for column, k in enumerate(found.sizes):
            with intervene(model, Deactivate(ranking.top(k), positions="last")):
                after = float(model.logits(model.pad([t]))[0, -1].double().log_softmax(-1)[y])
            assert found.after[row, column] == pytest.approx(after, abs=1e-5)
    assert ((found.area > 0) & (found.area < 10)).all()


def test_one_neuron_alone_is_its_single_effect(asked):
    model, tokens, targets = asked("olmo2")
    single = ablate_each(model, tokens[:1], target=targets[:1], progress=False)
    first = single.top(1)
    joint = ablate_sets(model, tokens[:1], first, (1,), target=targets[:1])
    assert joint.after[0, 0] - joint.before[0] == pytest.approx(first.scores[0], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replacement": "mean"}, "got none"),
        ({"replacement": "resample", "reference": ["a cat"]}, "other than the prompt"),
        ({"replacement": "noise"}, "Unknown replacement"),
        ({"form": "magic"}, "Unknown form"),
        ({"prefilter": 0.0}, "prefilter"),
        ({"prefilter": 2.0}, "prefilter"),
        ({"target": "letters"}, "Unknown target"),
        ({"target": "answer"}, "carry no answer"),
        ({"target": "margin"}, "options"),
        ({"target": 100_000}, "outside the vocabulary"),
    ],
)
def test_bad_input_is_told_in_words(changes, words):
    with pytest.raises(EffectError, match=words):
        ablate_each(tiny_model(), ["a cat"], **{"target": 5, "progress": False, **changes})


def test_an_answer_without_tokens_is_refused():
    with pytest.raises(AttributionError, match="no answer"):
        ablate_each(tiny_model(), [Prompt("p", "a cat", ())], progress=False)
