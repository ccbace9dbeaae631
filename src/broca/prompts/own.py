"""A text of one's own in a form of asking."""

from __future__ import annotations

from collections.abc import Sequence

from broca.errors import PromptError

from .forms import FEW_SHOT, Chat, Form, check_form


def put_own(text: str, form: str, shots: Sequence[str] = (), chat: Chat | None = None) -> str:
    """The text that a model reads.

    Args:
        text: What is asked; in the form `cloze` it stays as it is.
        form: Form of asking, see :data:`broca.prompts.FORMS`.
        shots: Lines shown before it, each with its answer, in the few-shot forms.
        chat: Puts a message in the model's chat template.

    Raises:
        PromptError: There is no such form, or lines are missing or of no use.
    """
    check_own(form, shots)
    if form == "cloze":
        return text
    asking = Form(form, max(len(shots), 1), chat if form == "chat" else None)
    return asking.place(asking.cut(text, 0), shots).text


def check_own(form: str, shots: Sequence[str]) -> None:
    """Refuse a form in which a text of one's own cannot be asked.

    Raises:
        PromptError: There is no such form, or lines to show are missing or of no use.
    """
    check_form(form)
    if (form in FEW_SHOT) != bool(shots):
        raise PromptError(
            "lines are shown before a prompt in the few-shot forms, and only there",
            f"--form {form}, {len(shots)} × --shot",
            '--form few-shot --shot "The capital of Italy is Rome" --shot ...',
        )
    if not all(map(str.strip, shots)):
        raise PromptError(
            "a line to show is empty",
            "--shot",
            'Write a prompt with its answer: --shot "The capital of Italy is Rome"',
        )
