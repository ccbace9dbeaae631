"""What counts as the right answer, in tokens."""

from __future__ import annotations

from broca.answers.alike import Alike, AnswersAlikeWarning, find_alike
from broca.answers.spoken import has_ended, said_line, spoken
from broca.answers.targets import MATCHES, Match, Target, find_targets, without_continuations
from broca.answers.tokens import BORDERS, answer_tokens, measure_border

__all__ = [
    "BORDERS",
    "MATCHES",
    "Alike",
    "AnswersAlikeWarning",
    "Match",
    "Target",
    "answer_tokens",
    "find_alike",
    "find_targets",
    "has_ended",
    "measure_border",
    "said_line",
    "spoken",
    "without_continuations",
]
