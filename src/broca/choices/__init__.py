"""The multiple-choice proxy measured: P of the right letter, untouched and edited.

`letters` finds the token that stands for each option's label; `measure` asks prompts with the last
token's neurons scaled, many edits beside each other in one batch with the untouched row.
"""

from __future__ import annotations

from broca.choices.letters import LETTER_VARIANTS, Letters, find_letters, label_tokens
from broca.choices.measure import ChoiceRow, ChoiceTask, check_last_tokens, measure_choices

__all__ = [
    "LETTER_VARIANTS",
    "ChoiceRow",
    "ChoiceTask",
    "Letters",
    "check_last_tokens",
    "find_letters",
    "label_tokens",
    "measure_choices",
]
