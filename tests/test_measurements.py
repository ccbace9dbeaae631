"""Answers under many conditions equal generate and a token-by-token loop, one prompt at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.answers import answer_tokens, find_targets, measure_border
from broca.errors import ModelError, PromptError
from broca.interventions import Deactivate, Scale
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.prompts import Prompt
from broca.responses import record_responses
from plain import plain_answer, plain_factor, plain_log_p
from tiny import TEXTS, tiny_model, tiny_module, tiny_tokenizer

ANSWERS = (("fox jumps over", "dog"), ("A",), ("city of the lazy",), ("B", "C", "D"))
PROMPTS = [
    Prompt(id=f"p{n}", text=f"{text}? Answer:", answers=answers)
    for n, (text, answers) in enumerate(zip(TEXTS * 3, ANSWERS * 3, strict=True))
]


def conditions_of(model):
    index = NeuronIndex(model.identity, model.sites)
    sets = [uniform_random(index, 12, seed) for seed in range(3)]
    upper = NeuronSet.of([n for n in sets[0] if n.layer >= 2], model.identity)
    return {
        "untouched": None,
        "all layers": Deactivate(sets[1]),
        "upper half": Deactivate(upper),
        "doubled": Scale(sets[2], 2.0),
    }


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "qwen3"])
def test_rows_equal_one_prompt_at_a_time(family):
    model = tiny_model(family)
    conditions = conditions_of(model)
    rows = list(answer_prompts(model, PROMPTS[:4], conditions, border=" ", batch_size=3))
    assert len(rows) == 4 * len(conditions)
    by_key = {(row.condition, row.prompt): row for row in rows}
    for name, change in conditions.items():
        factor, neurons = (1.0, None) if change is None else (change.factor, change.neurons)
        neurons = neurons if neurons is not None else NeuronSet.of([], model.identity)
        with plain_factor(model, neurons, factor):
            for prompt in PROMPTS[:4]:
                row = by_key[name, prompt.id]
                ids = tiny_tokenizer()(prompt.text).input_ids
                assert list(row.ids) == plain_answer(model, ids)
                answers = [
                    tiny_tokenizer()(f" {answer}", add_special_tokens=False).input_ids
                    for answer in prompt.answers
                ]
                log_ps = torch.tensor([plain_log_p(model, ids, answer) for answer in answers])
                assert row.log_p == pytest.approx(float(log_ps.logsumexp(0)), abs=1e-4)
                with torch.no_grad():
                    logits = model.module(torch.tensor([ids])).logits[0, -1]
                ranks = [int((logits > logits[answer[0]]).sum()) + 1 for answer in answers]
                assert row.rank == min(ranks)


def test_texts_are_without_special_tokens():
    """A model that ends every text says nothing; its tokens stay, and so does being wrong."""
    model = tiny_model("gpt2", seed=8)
    end = model.tokenizer.eos_token_id
    with torch.no_grad():
        model.module.transformer.ln_f.weight.zero_()
        rows = model.module.get_output_embeddings().weight
        model.module.transformer.ln_f.bias.copy_(10 * rows[end])
    for row in answer_prompts(model, PROMPTS[:3], {"untouched": None}, border=" "):
        assert row.ids == (end, end)
        assert (row.text, row.correct) == ("", False)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "bloom", "phi3"])
def test_shared_layers_change_nothing_in_other_families(family):
    model = tiny_model(family)
    conditions = conditions_of(model)
    together = list(answer_prompts(model, PROMPTS, conditions, border=" ", batch_size=64))
    for name, change in conditions.items():
        alone = list(answer_prompts(model, PROMPTS, {name: change}, border=" ", batch_size=1))
        theirs = {row.prompt: row for row in alone}
        for row in (row for row in together if row.condition == name):
            assert row.ids == theirs[row.prompt].ids
            assert row.log_p == pytest.approx(theirs[row.prompt].log_p, abs=1e-4)


def test_answers_without_log_p():
    model = tiny_model("llama")
    conditions = conditions_of(model)
    full = {
        (row.condition, row.prompt): row.ids
        for row in answer_prompts(model, PROMPTS, conditions, border=" ")
    }
    for row in answer_prompts(model, PROMPTS, conditions, border=" ", with_log_p=False):
        assert row.ids == full[row.condition, row.prompt]
        assert math.isnan(row.log_p)
        assert row.rank == 0


def test_two_greedy_tokens_must_be_a_prefix_of_a_right_answer():
    target = find_targets(
        tiny_model("llama"), [Prompt("p", "a cat? Answer:", ("dog jumps", "fox"))], " "
    )[0]
    dog, fox = target.measured
    assert len(dog) > 2
    assert target.is_correct(dog[:2])
    assert not target.is_correct((dog[0], fox[0]))
    one = find_targets(tiny_model("llama"), [Prompt("p", "a cat? Answer:", ("A",))], " ")[0]
    assert len(one.measured[0]) == 1
    assert one.is_correct((one.measured[0][0], 5))


def test_the_border_is_measured_not_assumed():
    """A head that answers without a space makes the bare border win, and the reverse."""
    model = tiny_model("llama")
    prompts = [Prompt("p", "a cat? Answer:", ("fox",)), Prompt("q", "one two", ("dog",))]
    for border in (" ", ""):
        module = tiny_model("llama").module
        firsts = {answer_tokens(model, p.text, p.answers[0], border)[0] for p in prompts}
        bias = torch.zeros(320)
        bias[list(firsts)] = 30.0
        head = torch.nn.Linear(32, 320)
        head.weight.data.normal_(std=1e-4)  # a head of zeros reads no neuron, and is refused
        head.bias.data.copy_(bias)
        module.lm_head = head
        assert measure_border(LanguageModel(module, tiny_tokenizer()), prompts) == border


def test_both_borders_count_as_right():
    target = find_targets(tiny_model("llama"), [Prompt("p", "one two", ("dog",))], " ")[0]
    bare = answer_tokens(tiny_model("llama"), "one two", "dog", "")
    assert target.is_correct(bare[:2])
    assert target.is_correct(target.measured[0][:2])


def test_a_prompt_with_its_answer_must_fit():
    long = "a cat " * 40
    model = tiny_model("llama", max_position_embeddings=64)
    with pytest.raises(PromptError, match="takes 64"):
        list(answer_prompts(model, [Prompt("p", long, ("dog",))], {"untouched": None}))


# ---- P of several answers


def model_that_repeats(token: int, bias: float) -> LanguageModel:
    """Says one token, after anything, with a probability near 1."""
    module = tiny_module("llama")
    head = torch.nn.Linear(32, 320)
    # next to nothing, yet something: a head of zeros reads no neuron, and such a model is refused
    torch.nn.init.normal_(head.weight, std=1e-4)
    with torch.no_grad():
        head.bias.zero_()
        head.bias[token] = bias
    module.lm_head = head
    return LanguageModel(module, tiny_tokenizer(), name="repeats")


REPEATING = model_that_repeats(answer_tokens(tiny_model("llama"), "a cat", "A", " ")[0], 12.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("AB ", min_size=1, max_size=6), min_size=1, max_size=6, unique=True))
def test_p_of_any_answers_is_at_most_1(answers):
    answers = tuple(dict.fromkeys(text.strip() for text in answers if text.strip())) or ("A",)
    prompt = Prompt("p", "a cat", answers)
    (row,) = answer_prompts(REPEATING, [prompt], {"untouched": None}, border=" ")
    assert math.exp(row.log_p) <= 1 + 1e-6
    # sequences that exclude each other, by a plain sum over those that no other one begins
    (target,) = find_targets(REPEATING, [prompt], " ")
    ids = list(target.prompt)
    every = {answer_tokens(REPEATING, "a cat", answer, " ") for answer in answers} - {()}
    apart = [s for s in every if not any(o != s and s[: len(o)] == o for o in every)]
    total = sum(math.exp(plain_log_p(REPEATING, ids, list(s))) for s in apart)
    assert math.exp(row.log_p) == pytest.approx(total, abs=1e-5)


def test_an_answer_that_begins_with_another_is_counted_once():
    (row,) = answer_prompts(
        REPEATING, [Prompt("p", "a cat", ("A", "A A", "A A A"))], {"untouched": None}, border=" "
    )
    (alone,) = answer_prompts(
        REPEATING, [Prompt("p", "a cat", ("A",))], {"untouched": None}, border=" "
    )
    assert row.log_p == pytest.approx(alone.log_p, abs=1e-6)
    assert math.exp(row.log_p) > 0.9
    assert row.rank == 1


# ---- logits that are not finite


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_that_are_not_finite_stop_with_the_dtype_to_take(dtype):
    """float16 ends at 65,504: a large enough weight overflows there, as Gemma 3 does."""
    module = tiny_module("llama").to(getattr(torch, dtype))
    broken = LanguageModel(module, tiny_tokenizer(), name="overflowing")
    with torch.no_grad():
        module.model.norm.weight.fill_(float("inf"))
    better = {"float16": "bfloat16", "bfloat16": "float32"}[dtype]
    for measure in (
        lambda: list(answer_prompts(broken, PROMPTS, {"untouched": None})),
        lambda: broken.probabilities(["a cat"]),
        lambda: broken.answer("a cat"),
        lambda: record_responses(broken, PROMPTS, ("up",)),
    ):
        with pytest.raises(ModelError, match=f"not finite in {dtype}.*{better}"):
            measure()


def test_padding_that_is_not_finite_is_nobodys():
    model = tiny_model("llama")
    batch = model.pad(model.encode(TEXTS))
    spoilt = batch.attention_mask == 0

    def spoil(module, args, output):
        return output.masked_fill(spoilt[..., None], float("nan"))

    handle = model.module.lm_head.register_forward_hook(spoil)
    try:
        logits = model.logits(batch, logits_to_keep=batch.ids.shape[1])
        assert torch.isnan(logits).any()
        spoilt[0, -1] = True
        with pytest.raises(ModelError, match="not finite"):
            model.logits(batch, logits_to_keep=batch.ids.shape[1])
    finally:
        handle.remove()
