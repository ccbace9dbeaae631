"""Chat templates: what they write that is not the message, and templates that fail."""

from __future__ import annotations

import copy
from datetime import datetime

import pytest

from broca.errors import PromptError
from broca.model.chat import chat_text
from broca.prompts import render_fact_prompts
from test_forms import capitals
from tiny import tiny_model, tiny_tokenizer

TURN = "<user>{{ messages[0]['content'] }}</user><model>"


def tokenizer_with(template: str):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ strftime_now('%d %b %Y') }} " + TURN, "26 Jul 2024"),
        ("{%- set today = strftime_now('%Y-%m-%d') %}{{ today }} " + TURN, "2024-07-26"),
    ],
)
def test_a_template_that_writes_the_date_writes_the_same_every_day(template, said) -> None:
    tokenizer = tokenizer_with(template)
    today = datetime.now().strftime("%Y")
    assert chat_text(tokenizer, "a cat") == f"{said} <user>a cat</user><model>"
    turn = [{"role": "user", "content": "a cat"}]
    assert today in tokenizer.apply_chat_template(turn, tokenize=False)  # nothing stays changed


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('a system message comes first') }}", "{% if %}", "{{ x.y.z }}"]
)
def test_a_template_that_fails_is_one_sentence(template) -> None:
    with pytest.raises(PromptError, match="chat template fails on a user's message"):
        chat_text(tokenizer_with(template), "a cat")


def test_a_system_prompt_of_the_template_is_not_what_is_asked() -> None:
    """Pooling `asked` takes the wording alone, though the system prompt names the subject."""
    model = tiny_model("llama")
    tokenizer = tokenizer_with("<system>You know Land 0 well.</system>" + TURN)
    prompts = render_fact_prompts(
        capitals(2), form="chat", chat=lambda text: chat_text(tokenizer, text)
    )
    for prompt in prompts:
        assert prompt.asked_span is not None
        assert prompt.text[slice(*prompt.asked_span)] == f"What is the capital of {prompt.subject}?"
        assert prompt.last_line == f"What is the capital of {prompt.subject}?"
        assert prompt.subject_span is not None
        assert prompt.subject_span[0] > prompt.text.index("</system>")
        start = min(model.positions_of(prompt.text, prompt.asked_span))
        before = model.tokenize(prompt.text[: prompt.asked_span[0]])
        assert len(model.tokenize(prompt.text)) + start >= len(before) - 1
