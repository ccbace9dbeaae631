"""Answers measured: P of the right letter, or of an answer in words, untouched and edited.

`letters` finds the token that stands for each option's label, `words` the tokens of an answer in
words; `measure` and `measure_words` ask prompts with neurons scaled where the answer is read, many
edits beside each other in one batch with the untouched row.
"""

from __future__ import annotations

from broca.choices.letters import LETTER_VARIANTS, Letters, find_letters, label_tokens
from broca.choices.measure import ChoiceRow, ChoiceTask, check_last_tokens, measure_choices
from broca.choices.measure_words import WordRow, WordTask, measure_words
from broca.choices.words import Words, find_words

__all__ = [
    "LETTER_VARIANTS",
    "ChoiceRow",
    "ChoiceTask",
    "Letters",
    "WordRow",
    "WordTask",
    "Words",
    "check_last_tokens",
    "find_letters",
    "find_words",
    "label_tokens",
    "measure_choices",
    "measure_words",
]
