"""Answers of real tokenizers and models, where tiny ones cannot show what is meant."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import pytest

from broca.answers import find_alike
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.prompts import Prompt

WEIGHTS = Path(__file__).parent.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not WEIGHTS.exists(), reason="make real-models fetches the model"),
]


@lru_cache(maxsize=1)
def smollm2() -> LanguageModel:
    return LanguageModel.from_pretrained(str(WEIGHTS), dtype="float32")


COUNT = ", ".join(map(str, range(1, 15))) + ","


@pytest.mark.parametrize(
    ("text", "answers", "p"),
    [
        (
            "Barack Obama was the 44th President of the",
            ("United States", "United States of America"),
            0.941,
        ),
        (COUNT, ("1", "15", "15,", "15, 16"), 0.991),
    ],
)
def test_an_answer_that_begins_with_another_is_counted_once(text, answers, p):
    """Counted twice, P was above 1."""
    prompts = [Prompt("all", text, answers), Prompt("first", text, answers[:1])]
    every, first = answer_prompts(smollm2(), prompts, {"": None}, border=" ")
    assert every.log_p == pytest.approx(first.log_p, abs=1e-5)
    assert math.exp(every.log_p) == pytest.approx(p, abs=0.002)


def test_years_are_not_known_by_their_first_digit():
    """Asked for years that are all said to be 1111, two tokens called most answers right."""
    people = ("Albert Einstein", "Ada Lovelace", "Napoleon Bonaparte", "Isaac Newton")
    objects = ("1111", *(str(year) for year in range(1860, 1881)))
    prompts = [
        Prompt(f"p{n}", f"{one} was born in the year", ("1111",), relation="born", objects=objects)
        for n, one in enumerate(people)
    ]
    (alike,) = find_alike(smollm2(), prompts, "prefix")
    assert alike.n_alike == alike.n_pairs == 231
    assert find_alike(smollm2(), prompts, "auto") == ()
    rows = list(answer_prompts(smollm2(), prompts, {"": None}, border=" "))
    assert not any(row.correct for row in rows)
    with pytest.warns(match="takes some wrong objects of born"):
        two = list(answer_prompts(smollm2(), prompts, {"": None}, border=" ", match="prefix"))
    assert sum(row.correct for row in two) >= 3


def test_a_tokenizer_that_appends_eos_answers_normally():
    model = smollm2()
    said = model.answer("The capital of France is", 4)
    from tokenizers import processors

    tokenizer = model.tokenizer
    end = tokenizer.eos_token
    kept = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    try:
        ending = LanguageModel(model.module, tokenizer, name="ending")
        assert tokenizer("x").input_ids[-1] == tokenizer.eos_token_id
        assert ending.answer("The capital of France is", 4) == said
        assert "is left out" in ending.special_tokens.described(tokenizer)
    finally:
        tokenizer.backend_tokenizer.post_processor = kept
