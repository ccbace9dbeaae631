"""Question files for the tests of query studies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broca.questions import AskedForm, Question
from planted import Planted

WORDS = ("cat", "dog", "fox", "city", "four", "five", "six", "seven")


def rows(n_fields: int = 2, per_field: int = 4, **changes: Any) -> list[dict[str, Any]]:
    """Rows of a table of questions that no model knows."""
    found = []
    for number in range(n_fields * per_field):
        options = [WORDS[(number + k) % len(WORDS)] for k in range(4)]
        found.append(
            {
                "id": f"q{number}",
                "question": f"Which one is number {number}?",
                "options": options,
                "answer": options[number % 4],
                "field": f"field{number % n_fields}",
                **changes,
            }
        )
    return found


def write_rows(path: Path, listed: list[dict[str, Any]]) -> Path:
    """The rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in listed), encoding="utf-8")
    return path


def planted_questions(world: Planted, per_field: int) -> list[Question]:
    """The planted model's questions with their own prompts, so many of every field."""
    taken: dict[str, int] = {}
    found = []
    for number, asked in enumerate(world.questions):
        if taken.setdefault(asked.field, 0) >= per_field:
            continue
        taken[asked.field] += 1
        forms = []
        for text, letter in asked.prompts:
            shown = text[text.index("A") :]
            options = tuple(sorted(asked.options, key=shown.rindex))
            forms.append(AskedForm(text, options, tuple("ABCD"), "ABCD".index(letter)))
        found.append(
            Question(
                id=f"q{number}",
                question=asked.question,
                options=asked.options,
                answer=asked.answer,
                field=asked.field,
                relation=asked.relation,
                asked=tuple(forms),
            )
        )
    return found
