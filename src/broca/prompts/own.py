"""A text of one's own in a form of asking."""

from __future__ import annotations

from collections.abc import Sequence

from broca.errors import PromptError

from .forms import Chat, Form, check_form


def put_own(text: str, form: str, shots: Sequence[str] = (), chat: Chat | None = None) -> str:
    """The text that a model reads.

    Args:
        text: What is asked; in the form `cloze` it stays as it is.
        form: Form of asking, see :data:`broca.prompts.FORMS`.
        shots: Lines shown before it, each with its answer, in the form `few-shot`.
        chat: Puts a message in the model's chat template.

    Raises:
        PromptError: There is no such form, or lines are missing or of no use.
    """
    check_form(form)
    if form == "few-shot-other" or (form == "few-shot") != bool(shots):
        raise PromptError(
            "lines are shown before a prompt in the form few-shot, and only there",
            f"form {form}, {len(shots)} lines",
        )
    if form == "cloze":
        return text
    asking = Form(form, max(len(shots), 1), chat if form == "chat" else None)
    return asking.place(asking.cut(text, 0), shots).text
