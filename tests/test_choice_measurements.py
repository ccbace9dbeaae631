"""Letters and their probabilities: both ways of measuring against each other and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from broca.choices import ChoiceTask, check_last_tokens, find_letters, measure_choices
from broca.choices.edits import changed_neurons
from broca.errors import ModelError, PromptError, QuestionsError
from broca.interventions import Fix, Intervention, Scale, intervene
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronIndex, NeuronSet, uniform_random
from broca.prompts import ChoicePrompt
from planted import planted_world
from tiny import tiny_model

LINES = "A. option A\nB. option B\nC. option C\nD. option D"
TEXTS = (
    f"Question: the quick brown fox?\n{LINES}\nAnswer:",
    f"one two?\n{LINES}\nThe answer is",
)


def choice_prompts(texts: tuple[str, ...] = TEXTS, labels: str = "ABCD") -> list[ChoicePrompt]:
    options = tuple(f"option {label}" for label in labels)
    return [
        ChoicePrompt(
            id=f"q{i}/plain",
            text=text,
            answers=(labels[i % len(labels)],),
            fact=f"q{i}",
            field="field",
            role="choice",
            options=options,
            labels=tuple(labels),
            answer=i % len(labels),
        )
        for i, text in enumerate(texts)
    ]


def random_edits(model: LanguageModel, n: int = 3) -> list[tuple[str, Intervention | None]]:
    index = NeuronIndex(model.identity, ("hidden",))
    found: list[tuple[str, Intervention | None]] = [("nothing", None)]
    for seed in range(n):
        neurons = uniform_random(index, 7 + seed, seed, name=f"set-{seed}")
        values = tuple(np.linspace(-1, 1, len(neurons)).tolist())
        found += [
            (f"{seed} off", Scale(neurons, 0.0, "last")),
            (f"{seed} up", Scale(neurons, 2.0, "last")),
            (f"{seed} fixed", Fix(neurons, values, "last")),
        ]
    return found


@pytest.mark.parametrize("family", ["mistral", "gemma2", "opt", "bloom"])
def test_both_ways_equal_one_prompt_after_the_other(family: str) -> None:
    model = tiny_model(family)
    edits = random_edits(model, 2)
    letters = list(find_letters(model, choice_prompts()))
    ways = {False, check_last_tokens(model)}
    assert True in ways or family == "bloom"
    for beside in ways:
        tasks = [ChoiceTask(one, edits) for one in letters]
        rows = list(measure_choices(model, tasks, batch_size=3, side_by_side=beside))
        assert [row.edit for row in rows] == [name for name, _ in edits] * len(letters)
        for row, (_, scale) in zip(rows, edits * len(letters), strict=True):
            clean = model.logits(model.pad([row.letters.tokens]))[0, -1].log_softmax(-1)
            with intervene(model, scale):
                edited = model.logits(model.pad([row.letters.tokens]))[0, -1].log_softmax(-1)
            target = row.letters.target
            assert row.log_p_before == pytest.approx(float(clean[target]), abs=2e-4)
            assert row.log_p == pytest.approx(float(edited[target]), abs=2e-4)
            assert row.token == int(edited.argmax())
            assert row.rank == int((edited > edited[target]).sum()) + 1
            labels = [max(float(edited[t]) for t in one) for one in row.letters.candidates]
            p = np.exp(labels) / np.exp(labels).sum()
            right = row.letters.prompt.answer
            wrong = max(value for label, value in enumerate(labels) if label != right)
            assert row.p_within == pytest.approx(p[right], abs=2e-4)
            assert row.margin == pytest.approx(labels[right] - wrong, abs=5e-4)
            if scale is None:
                assert row.log_p == row.log_p_before  # both stand in the same batch
                assert (row.p_within, row.margin) == (row.p_within_before, row.margin_before)


def test_edits_elsewhere_run_whole_prompts_beside_those_at_the_last_position() -> None:
    model = tiny_model("llama")
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 9, 0, name="nine")
    (one,) = find_letters(model, choice_prompts()[:1])
    lines = model.positions_of(one.prompt.text, one.prompt.option_lines())
    shown = model.tokenizer.decode([one.tokens[at] for at in lines])
    assert shown.split() == [
        "A.",
        "option",
        "A",
        "B.",
        "option",
        "B",
        "C.",
        "option",
        "C",
        "D.",
        "option",
        "D",
    ]
    edits = [
        (str(place), Scale(neurons, 0.0, place)) for place in ("all", "last", lines, (-1,), (-2,))
    ]
    rows = {row.edit: row for row in measure_choices(model, [ChoiceTask(one, edits)])}
    for name, edit in edits:
        with intervene(model, edit):
            log_p = model.logits(model.pad([one.tokens]))[0, -1].log_softmax(-1)[one.target]
        assert rows[name].log_p == pytest.approx(float(log_p), abs=2e-4)
    assert rows["last"].log_p == pytest.approx(rows["(-1,)"].log_p, abs=1e-4)
    assert len({round(row.log_p, 4) for row in rows.values()}) == 4


def test_options_stand_where_they_are_found_and_can_be_rearranged() -> None:
    (prompt,) = choice_prompts()[:1]
    assert [prompt.text[a:b] for a, b in prompt.option_spans()] == list(prompt.options)
    turned = prompt.rearranged((3, 0, 1, 2), "turned")
    assert turned.text == TEXTS[0].replace("A. option A", "A. option D").replace(
        "B. option B", "B. option A"
    ).replace("C. option C", "C. option B").replace("D. option D", "D. option C")
    assert (turned.answer, turned.answers, turned.right) == (1, ("B",), prompt.right)
    assert turned.id == "q0/plain/turned"
    with pytest.raises(PromptError, match="cannot be found"):
        replace(prompt, text="Which?").option_spans()


def test_the_variant_of_more_probability_is_the_target() -> None:
    model = tiny_model("llama")
    for prompt, letters in zip(
        choice_prompts(), find_letters(model, choice_prompts()), strict=True
    ):
        p = model.probabilities([prompt.text])[0]
        ways = {}
        for name, text in (("bare", prompt.answers[0]), ("space", f" {prompt.answers[0]}")):
            ids = model.tokenizer(prompt.text).input_ids
            ways[name] = model.tokenizer(prompt.text + text).input_ids[len(ids)]
        assert letters.target == ways[letters.variant]
        assert letters.p == pytest.approx(float(p[letters.target]), rel=1e-4)
        assert letters.p == pytest.approx(max(float(p[t]) for t in ways.values()), rel=1e-4)
        bare = next(find_letters(model, [prompt], variant="bare"))
        assert (bare.variant, bare.target) == ("bare", ways["bare"])


def test_planted_letters_are_right() -> None:
    world = planted_world()
    model = LanguageModel(world.module, world.tokenizer, name="planted")
    prompts = []
    for number, question in enumerate(world.questions[:4]):
        text, letter = question.prompts[0]
        (prompt,) = choice_prompts((text,))
        prompts.append(
            replace(prompt, id=f"p{number}", answers=(letter,), answer="ABCD".index(letter))
        )
    letters = list(find_letters(model, prompts))
    assert all(one.correct and one.p > 0.3 for one in letters)
    common = NeuronSet.of(world.common, model.identity, name="common")
    tasks = [ChoiceTask(one, [("off", Scale(common, 0.0, "last"))]) for one in letters]
    for row in measure_choices(model, tasks):
        assert math.exp(row.log_p - row.log_p_before) < 0.2
        assert math.exp(row.log_p_before) == pytest.approx(row.letters.p, rel=1e-4)
        assert row.chosen_before == row.letters.prompt.answer


def test_an_infinite_value_is_switched_off_to_zero() -> None:
    model = tiny_model("llama")
    neurons = NeuronSet.of([Neuron("hidden", 0, 2)], model.identity)
    edits = [None, Scale(neurons, 0.0, "last")]
    change = changed_neurons(edits, model.device)["hidden", 0]
    values = torch.full((2, 1, 3), float("inf"))
    assert change(values)[1, 0].tolist() == [float("inf"), float("inf"), 0.0]
    assert torch.isinf(change(values)[0]).all()


def test_labels_that_share_their_first_token_are_refused() -> None:
    model = tiny_model("llama")
    (prompt,) = choice_prompts((TEXTS[0],))
    twins = replace(prompt, labels=("10", "11", "12", "13"), answers=("10",))
    with pytest.raises(QuestionsError, match="begin with the same token"):
        list(find_letters(model, [twins]))
    digits = replace(prompt, labels=("1", "2", "3", "4"), answers=("1",))
    assert next(find_letters(model, [digits])).p > 0


def test_mistakes_are_told() -> None:
    model = tiny_model("llama")
    with pytest.raises(PromptError, match="unknown way"):
        list(find_letters(model, choice_prompts(), variant="loud"))
    (long,) = choice_prompts(("cat " * 400,))
    with pytest.raises(PromptError, match="takes 256"):
        list(find_letters(model, [long]))


def test_probabilities_that_are_not_finite_are_refused() -> None:
    model = tiny_model("gpt2", seed=3)
    with torch.no_grad():
        model.module.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        list(find_letters(model, choice_prompts()))


def test_batches_change_nothing() -> None:
    model = tiny_model("llama")
    letters = list(find_letters(model, choice_prompts()))
    tasks = [ChoiceTask(one, random_edits(model)) for one in letters]
    small, large = (
        np.array([row.log_p for row in measure_choices(model, tasks, batch_size=size)])
        for size in (2, 64)
    )
    assert np.abs(small - large).max() < 1e-5
