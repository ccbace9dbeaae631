"""A message in the tokenizer's own chat markup, the answer's turn begun."""

from __future__ import annotations

from typing import Any

from broca.errors import PromptError


def chat_text(tokenizer: Any, message: str) -> str:
    """The text a model reads for a user's message, without the BOS that its tokenizer adds.

    Raises:
        PromptError: The tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError(
            "this tokenizer has no chat template",
            mend="Use a chat model, or another form of asking than chat",
        )
    turn = [{"role": "user", "content": message}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    start = tokenizer.bos_token
    # templates write the BOS token that tokenizers add once more
    if (
        start
        and text.startswith(start)
        and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]
    ):
        text = text.removeprefix(start)
    return text
