"""A message in the tokenizer's own chat markup, the answer's turn begun.

Some templates write the date of the day. A run that goes on tomorrow would ask other prompts than
it did today, so they are given one date: that which Llama 3.1's template falls back on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from transformers.utils import chat_template_utils

from broca.errors import PromptError

DAY = datetime(2024, 7, 26)


def chat_text(tokenizer: Any, message: str) -> str:
    """The text a model reads for a user's message, without the BOS that its tokenizer adds.

    Raises:
        PromptError: The tokenizer has no chat template, or one that cannot be used.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError(
            "this tokenizer has no chat template",
            mend="Use a chat model, or another form of asking than chat",
        )
    turn = [{"role": "user", "content": message}]
    try:
        with _one_day():
            text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program of its own, and may raise what it likes
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PromptError(
            f"the tokenizer's chat template fails on a user's message: {said}",
            mend="Use another form of asking than chat",
        ) from error
    start = tokenizer.bos_token
    # templates write the BOS token that tokenizers add once more
    if (
        start
        and text.startswith(start)
        and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]
    ):
        text = text.removeprefix(start)
    return text


class _Day:
    """What templates see of the clock."""

    @staticmethod
    def now() -> datetime:
        return DAY


@contextmanager
def _one_day() -> Iterator[None]:
    module: Any = chat_template_utils
    before = module.datetime
    module.datetime = _Day
    try:
        yield
    finally:
        module.datetime = before
