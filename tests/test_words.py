"""Answers in words: tokens, probabilities and attributions against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import plain_loop
from broca.attributions import attribute_each, attribute_whole_answers, fixed_rule
from broca.choices import Words, WordTask, find_words, measure_words
from broca.choices.continuations import check_continuations
from broca.errors import AttributionError, PromptError
from broca.interventions import Fix, Scale, intervene
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt
from tiny import tiny_model

TEXTS = ("the quick brown fox jumps over the lazy", "one two three four five six seven", "cat")
ANSWERS = (("dog", "blue whale"), ("eight nine ten",), ("city",))


def prompts() -> list[Prompt]:
    return [
        Prompt(id=f"p{i}", text=text, answers=answers, fact=f"q{i}", field="f")
        for i, (text, answers) in enumerate(zip(TEXTS, ANSWERS, strict=True))
    ]


def edits(model: LanguageModel, n: int = 2) -> list[tuple[str, Scale | None]]:
    index = NeuronIndex(model.identity, ("hidden",))
    found: list[tuple[str, Scale | None]] = [("nothing", None)]
    for seed in range(n):
        neurons = uniform_random(index, 12 + seed, seed, name=f"set-{seed}")
        found += [
            (f"{seed} off", Scale(neurons, 0.0, "answer")),
            (f"{seed} up", Scale(neurons, 2.0, "answer")),
        ]
    return found


@torch.no_grad()
def plain_log_p(model: LanguageModel, words: Words, scale: Scale | None) -> tuple[float, list[int]]:
    """Log P of the answer and the greedy tokens at its positions, by hooks of our own."""
    tokens = [*words.tokens, *words.target[:-1]]
    n, handles = len(words.target), []
    for layer in range(model.n_layers if scale else 0):
        own = [x.index for x in scale.neurons if x.layer == layer]  # type: ignore[union-attr]

        def change(module, args, own=own):
            new = args[0].clone()
            flat = new.view(-1, new.shape[-1])  # one prompt
            flat[-n:, own] = flat[-n:, own] * scale.factor  # type: ignore[union-attr]
            return (new,)

        handles.append(model.block(layer).down.register_forward_pre_hook(change))
    try:
        logits = model.module(torch.tensor([tokens]), use_cache=False).logits[0, -n:].float()
    finally:
        for handle in handles:
            handle.remove()
    log_p = logits.log_softmax(-1)
    total = sum(float(log_p[i, token]) for i, token in enumerate(words.target))
    return total, logits.argmax(-1).tolist()


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gpt2", "bloom"])
def test_edited_answers_equal_plain_hooks(family: str) -> None:
    model = tiny_model(family)
    changes = edits(model)
    asked = list(find_words(model, prompts()))
    assert max(len(one.target) for one in asked) > 1
    ways = {False, check_continuations(model)}
    assert True in ways or family == "bloom"
    for beside in ways:
        tasks = [WordTask(one, changes) for one in asked]
        rows = list(measure_words(model, tasks, batch_size=3, beside=beside))
        assert [row.edit for row in rows] == [name for name, _ in changes] * len(asked)
        for row, (_, scale) in zip(rows, changes * len(asked), strict=True):
            before, _ = plain_log_p(model, row.words, None)
            after, greedy = plain_log_p(model, row.words, scale)
            assert row.log_p_before == pytest.approx(before, abs=5e-4)
            assert row.log_p == pytest.approx(after, abs=5e-4)
            assert row.token == greedy[0]
            if tuple(greedy) == row.words.target:
                assert row.correct


def test_answer_positions_are_the_same_for_interventions_and_rows() -> None:
    """`intervene` at "answer" is what `measure_words` does beside each other."""
    model = tiny_model("llama")
    one = next(find_words(model, prompts()[1:2]))
    n = len(one.target)
    (_, _), (_, off), *_ = edits(model)
    (row,) = measure_words(model, [WordTask(one, [("off", off)])])
    batch = model.pad([[*one.tokens, *one.target[:-1]]])
    with intervene(model, off, after_prompt=n - 1):
        log_p = model.logits(batch, logits_to_keep=n)[0].log_softmax(-1)
    whole = sum(float(log_p[i, token]) for i, token in enumerate(one.target))
    assert row.log_p == pytest.approx(whole, abs=2e-4)
    with intervene(model, Scale(off.neurons, 0.0, "last"), after_prompt=n - 1):  # type: ignore
        last = model.logits(batch, logits_to_keep=n)[0].log_softmax(-1)
    assert abs(float(last[-1, one.target[-1]] - log_p[-1, one.target[-1]])) > 1e-6


def test_edits_at_all_positions_run_whole_prompts() -> None:
    model = tiny_model("llama")
    one = next(find_words(model, prompts()[1:2]))
    n = len(one.target)
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 7, 0, name="seven")
    changes = {
        "all": Scale(neurons, 0.0),
        "fixed": Fix(neurons, tuple(np.linspace(-1, 1, 7).tolist()), "answer"),
    }
    rows = list(measure_words(model, [WordTask(one, list(changes.items()))]))
    assert {row.edit for row in rows} == set(changes)
    for row in rows:
        batch = model.pad([[*one.tokens, *one.target[:-1]]])
        with intervene(model, changes[row.edit], after_prompt=n - 1):
            log_p = model.logits(batch, logits_to_keep=n)[0].log_softmax(-1)
        whole = sum(float(log_p[i, token]) for i, token in enumerate(one.target))
        assert row.log_p == pytest.approx(whole, abs=2e-4)


def test_the_answer_measured_is_the_most_probable_right_one() -> None:
    model = tiny_model("llama")
    for one in find_words(model, prompts()):
        values = {
            right: math.exp(plain_log_p(model, replace_target(one, right), None)[0])
            for right in one.rights
        }
        assert one.target == max(values, key=lambda right: values[right])
        assert one.p == pytest.approx(values[one.target], rel=1e-3)
        assert np.prod(one.p_tokens) == pytest.approx(one.p, rel=1e-6)


def replace_target(one: Words, right: tuple[int, ...]) -> Words:
    from dataclasses import replace

    return replace(one, target=right)


def test_right_is_what_greedy_decoding_says() -> None:
    """The model's own greedy words are a right answer, with another one beside them."""
    model = tiny_model("llama")
    prompt = Prompt(id="p", text=TEXTS[0], answers=("dog",))
    ids = model.module.generate(
        torch.tensor([model.encode([prompt.text])[0]]), max_new_tokens=3, do_sample=False
    )[0]
    said = model.tokenizer.decode(ids[len(model.encode([prompt.text])[0]) :])
    own = Prompt(id="q", text=TEXTS[0], answers=("dog", said.strip()))
    wrong, right = find_words(model, [prompt, own])
    expected = tuple(ids[len(right.tokens) :].tolist())
    assert not wrong.correct
    if expected in right.rights:  # the tokenizer gives the same tokens back
        assert right.correct
        (row,) = measure_words(model, [WordTask(right, [("nothing", None)])])
        assert row.correct
        assert row.correct_before


# ---- attribution


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_attribution_of_an_answer_is_the_product_rule_over_its_tokens(family: str) -> None:
    model = tiny_model(family)
    one = next(find_words(model, prompts()[1:2]))
    answer = one.target[:3]
    options = {"method": "gauss-legendre", "n_steps": 12}
    (found,) = attribute_whole_answers(model, [one.tokens], [answer], ids=["p"], **options)
    rule = fixed_rule("gauss-legendre", 12)
    p, parts = [], []
    for number, token in enumerate(answer):
        tokens = [*one.tokens, *answer[:number]]
        p.append(float(model.logits(model.pad([tokens]))[0, -1].softmax(-1)[token]))
        parts.append(plain_loop.attribute(model, tokens, token, rule.nodes, rule.weights))
    expected = sum(
        part.numpy() * math.prod(p[:number] + p[number + 1 :]) for number, part in enumerate(parts)
    )
    assert found.prompt_id == "p"
    assert found.target == answer
    assert found.probability == pytest.approx(math.prod(p), rel=1e-3)
    largest = np.abs(expected).max()
    assert np.abs(found.values - expected).max() <= 2e-3 * largest
    # sums of the values are the weighted changes of the tokens
    change = found.probability - found.p_zero
    assert np.allclose(found.values.sum(1) - found.convergence_delta, change, atol=1e-3 * largest)


def test_an_answer_of_one_token_has_the_rule_of_the_letters() -> None:
    model = tiny_model("llama")
    one = next(find_words(model, prompts()[:1]))
    token = one.target[0]
    (words,) = attribute_whole_answers(model, [one.tokens], [[token]])
    (letter,) = attribute_each(model, [list(one.tokens)], target=[token])
    assert np.array_equal(words.values, letter.values)
    assert words.probability == letter.probability
    assert words.step_change == letter.step_change


def test_mistakes_are_told() -> None:
    model = tiny_model("llama")
    one = next(find_words(model, prompts()[:1]))
    with pytest.raises(AttributionError, match="at least one token"):
        next(attribute_whole_answers(model, [one.tokens], [[]]))
    with pytest.raises(PromptError):
        list(find_words(model, [Prompt(id="p", text="cat " * 300, answers=("dog",))]))
