"""Questions as JSONL, one per line, readable by `load_questions` without loss."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from broca.errors import QuestionsError

from .question import Question


def write_questions(questions: Iterable[Question], path: str | Path) -> Path:
    """Write questions beside the file and put them in its place at the end.

    Raises:
        QuestionsError: The file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", encoding="utf-8") as file:
            for question in questions:
                file.write(json.dumps(_to_row(question), ensure_ascii=False) + "\n")
        os.replace(beside, path)
    except OSError as cause:
        raise QuestionsError(f"the file cannot be written: {cause}", str(path)) from None
    return path


def _to_row(question: Question) -> dict[str, object]:
    """The fields that say something; the answer as text, for human readers."""
    row = {name: value for name, value in asdict(question).items() if value not in ("", ())}
    return {**row, "answer": question.right, "answer_kind": "text"}
