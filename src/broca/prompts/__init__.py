"""Prompts: the texts a model is given, with the answers that are right.

`prompt` holds the values, `forms` the ways to put a wording before a model (as a question, to be
completed, behind demonstrations, in a chat), `facts` and `questions` render what is to be asked.
"""

from __future__ import annotations

from .facts import draw_demonstrations, render_fact_prompts
from .forms import FORMS, Form, add_ending
from .own import put_own
from .prompt import ChoicePrompt, Prompt
from .questions import render_question_prompts, render_word_prompts

__all__ = [
    "FORMS",
    "ChoicePrompt",
    "Form",
    "Prompt",
    "add_ending",
    "draw_demonstrations",
    "put_own",
    "render_fact_prompts",
    "render_question_prompts",
    "render_word_prompts",
]
