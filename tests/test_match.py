"""How many tokens of an answer are compared, and what cannot be told apart by them."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.answers import AnswersAlikeWarning, find_alike, find_targets
from broca.answers.objects import ObjectTokens
from broca.answers.tokens import answer_tokens, n_blank
from broca.errors import PromptError, RecipeError
from broca.facts import Fact, Relation
from broca.interventions import Deactivate, intervene
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt, render_fact_prompts
from broca.studies.relations import RelationsConfig
from tiny import TEXTS, tiny_model, tiny_tokenizer

MODEL = tiny_model("llama")
YEARS = tuple(str(year) for year in range(1870, 1884))


def target_of(answers, objects, match, text="born in"):
    prompt = Prompt("p", text, tuple(answers), objects=tuple(objects))
    return find_targets(MODEL, [prompt], " ", match)[0]


def tokens_of(answer, text="born in"):
    return answer_tokens(MODEL, text, answer, " ")


def test_years_are_told_apart_by_auto_and_not_by_two_tokens():
    """Here as in SmolLM2 digits are tokens of their own: two tokens say 18 at most."""
    for one, other in itertools.permutations(YEARS, 2):
        target = target_of([one], YEARS, "auto")
        assert target.is_correct(tokens_of(one))
        assert not target.is_correct(tokens_of(other))
        assert target_of([one], YEARS, "prefix").is_correct(tokens_of(other))
    prompts = [Prompt("p", "born in", ("1871",), relation="born", objects=YEARS)]
    (alike,) = find_alike(MODEL, prompts, "prefix")
    assert (alike.n_alike, alike.n_pairs) == (91, 91)
    assert "91 of 91 pairs" in str(alike)
    assert find_alike(MODEL, prompts, "auto") == ()
    assert target_of(["1871"], YEARS, "prefix").alike == tuple(y for y in YEARS if y != "1871")
    assert target_of(["1871"], YEARS, "auto").alike == ()


def test_a_lone_space_is_no_token_of_an_answer():
    tokens = tokens_of("1879")
    assert n_blank(MODEL, tokens) == int(MODEL.tokenizer.decode([tokens[0]]) == " ")
    assert n_blank(MODEL, answer_tokens(MODEL, "a", "x", "   ")) > 0
    spaced = target_of(["1879"], (), "auto")
    compared = dict(zip(spaced.right, spaced.compared, strict=True))
    assert compared[tokens] == 2 + n_blank(MODEL, tokens)


def test_an_object_that_goes_on_where_the_answer_ends():
    short, long = tokens_of("fox"), tokens_of("fox jumps")
    assert long[: len(short)] == short
    after = 0
    target = target_of(["fox"], ("fox", "fox jumps"), "auto")
    assert target.verdict(short) is None
    assert target.is_correct((*short, after))
    assert not target.is_correct(long)
    assert target_of(["fox"], ("fox", "fox jumps"), "prefix").is_correct(long)
    both = target_of(["fox", "fox jumps"], ("fox", "fox jumps"), "auto")
    assert both.is_correct(long)
    assert both.is_correct((*short, after))


def test_the_prefix_test_is_the_papers():
    """Two tokens, whatever the relation's objects."""
    for answers in (["fox jumps over"], ["A"], ["1879"], ["A", "fox jumps"]):
        target = target_of(answers, ("fox jumps under", "1871", *answers), "prefix")
        for size in (1, 2):
            for right in target.right:
                said = (*right, 7, 7)[: max(2, size)]
                assert target.is_correct(said)
                wrong = (*right[: min(2, len(right)) - 1], 0, 0)[:2]
                assert not target.is_correct(wrong)


WORDS = st.lists(
    st.text("aAB 189üñ東京-", min_size=1, max_size=7).map(str.strip).filter(bool),
    min_size=2,
    max_size=6,
    unique=True,
)


@settings(max_examples=150, deadline=None)
@given(WORDS, st.sampled_from(["auto", "prefix", "whole"]))
def test_no_objects_are_taken_for_one_another_without_a_word(objects, match):
    """Each object given in full, then anything: right for its own prompt, wrong for the others'
    unless the target and the relation's record say so."""
    prompts = [
        Prompt(f"p{o}", "born in", (o,), relation="born", objects=tuple(objects)) for o in objects
    ]
    targets = find_targets(MODEL, prompts, " ", match)
    named = find_alike(MODEL, prompts, match)
    for prompt, target in zip(prompts, targets, strict=True):
        for other in objects:
            said = (*tokens_of(other), 0, 0)
            if other in prompt.answers:
                assert target.is_correct(said)
            elif target.is_correct(said):
                assert other in target.alike
                assert named
                assert match == "prefix"
    if match != "prefix":
        assert not named


@settings(max_examples=40, deadline=None)
@given(WORDS)
def test_objects_are_read_behind_a_prompts_end_as_behind_the_prompt(objects):
    tokens = ObjectTokens(MODEL)
    for text in ("the capital of France is? Answer:", "she was born in"):
        for one in objects:
            exact = [answer_tokens(MODEL, text, one, border) for border in (" ", "")]
            assert tokens.of(text, one) == tuple(dict.fromkeys(exact))


# ---- asked


OBJECTS = ("1212", "1221", "2121", "2111", "2222", "2221", "222", "dog")
PROMPTS = [
    Prompt(f"p{n}", f"{text}? Answer:", (answer,), relation="r", objects=OBJECTS)
    for n, (text, answer) in enumerate(itertools.product(TEXTS[:3], OBJECTS))
]


@torch.no_grad()
def plain_verdict(model: LanguageModel, prompt: Prompt, match: Any) -> tuple[list[int], bool]:
    """One whole pass per token, until the target is decided."""
    (target,) = find_targets(model, [prompt], " ", match)
    ids, said = list(target.prompt), []
    while len(said) < 2 or target.verdict(said) is None:
        logits = model.module(torch.tensor([[*ids, *said]])).logits[0, -1]
        said.append(int(logits.argmax()))
    return said, target.is_correct(said)


def steered(family: str) -> LanguageModel:
    """Likes to say 1 and x, so that greedy paths run along answers for a while."""
    model = tiny_model(family, seed=3)
    liked = torch.zeros(320)
    for letter in "12":
        liked[tiny_tokenizer()(letter, add_special_tokens=False).input_ids] = 40.0
    model.module.get_output_embeddings().register_forward_hook(
        lambda module, args, output: output + liked
    )
    return model


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
@pytest.mark.parametrize("match", ["auto", "whole"])
def test_answers_equal_a_plain_loop(family, match):
    model = steered(family)
    index = NeuronIndex(model.identity, model.sites)
    changes = {"untouched": None, "off": Deactivate(uniform_random(index, 40, 1))}
    rows = list(answer_prompts(model, PROMPTS, changes, border=" ", match=match, batch_size=9))
    lengths = set()
    for row in rows:
        prompt = next(p for p in PROMPTS if p.id == row.prompt)
        change = changes[row.condition]
        if change is None:
            said, correct = plain_verdict(model, prompt, match)
        else:
            with intervene(model, change):
                said, correct = plain_verdict(model, prompt, match)
        assert list(row.ids[: len(said)]) == said
        assert match == "whole" or len(row.ids) == len(said)
        assert row.correct == correct
        lengths.add(len(row.ids))
    assert len(lengths) > 1  # more than two tokens were needed somewhere


@pytest.mark.filterwarnings("ignore::broca.answers.AnswersAlikeWarning")
def test_two_tokens_stay_two():
    model = steered("llama")
    for row in answer_prompts(model, PROMPTS, {"": None}, border=" ", match="prefix"):
        assert len(row.ids) == 2


def test_whole_answers_are_shown_to_the_end_of_the_line():
    model = steered("llama")
    for row in answer_prompts(model, PROMPTS, {"": None}, border=" ", match="whole"):
        prompt = next(p for p in PROMPTS if p.id == row.prompt)
        n = max(map(len, find_targets(model, [prompt], " ", "whole")[0].right))
        ended = [place for place, token in enumerate(row.ids, 1) if model.ends_line(token)]
        assert len(row.ids) >= max(2, min(ended[0] if ended else n, n))


def test_a_test_that_mistakes_objects_says_so():
    with pytest.warns(AnswersAlikeWarning, match="wrong objects of r for right"):
        list(answer_prompts(MODEL, PROMPTS, {"": None}, border=" ", match="prefix"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(answer_prompts(MODEL, PROMPTS[:3], {"": None}, border=" "))
    with pytest.raises(PromptError, match="no match 'loud'"):
        find_targets(MODEL, PROMPTS[:1], " ", "loud")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RecipeError, match="match"):
        RelationsConfig(match="loud")  # pyright: ignore[reportArgumentType]


def test_parts_of_a_relation_keep_its_objects():
    facts = tuple(Fact(f"s{n}", "r", (f"o{n}",)) for n in range(6))
    relation = Relation("r", facts, {"finding": ("{} is",)})
    detection, evaluation = relation.split(2)
    assert detection.objects == evaluation.objects == tuple(f"o{n}" for n in range(6))
    assert {p.objects for p in render_fact_prompts(evaluation)} == {relation.objects}


def test_tokenizers_of_the_tests_split_digits():
    assert len(tiny_tokenizer()(" 1879", add_special_tokens=False).input_ids) >= 4
