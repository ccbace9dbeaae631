"""Multiple-choice questions: from files, from facts, from free-form answers, from data sets.

`question` holds the values, `wordings` the ways to put one, `read` the file formats, `build` the
making of options, `load` the one entrance, `sources` the data sets behind `broca build questions`.
"""

from __future__ import annotations

from .build import OpenQuestion, build_questions, close_questions
from .load import load_questions
from .question import (
    AskedForm,
    Question,
    check_distinct,
    choose_per_field,
    require_several_fields,
    with_language_as_field,
)
from .sources import build_question_file
from .wordings import ChoiceWording, load_wordings
from .write import write_questions

__all__ = [
    "AskedForm",
    "ChoiceWording",
    "OpenQuestion",
    "Question",
    "build_question_file",
    "build_questions",
    "check_distinct",
    "choose_per_field",
    "close_questions",
    "load_questions",
    "load_wordings",
    "require_several_fields",
    "with_language_as_field",
    "write_questions",
]
