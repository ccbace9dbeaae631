"""Answers in words by language, and the choice between letters and words, on the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broca.run import execute, read_job
from broca.studies.queries.material import Material
from query_files import rows, write_rows
from tiny import tiny_model

pytestmark = pytest.mark.slow


def test_languages_in_words_on_atlas(tmp_path: Path) -> None:
    job = read_job(
        {
            "studies": ["queries.languages"],
            "answer": "words",
            "languages": ["en", "de", "fr"],
            "per_language": 6,
            "n_prompts": 1,
            "n_unrelated": 1,
            "n_same": 1,
            "n_matched": 1,
            "methods": ["na-ica"],
            "n_resamples": 50,
            "n_permutations": 50,
        }
    )
    figures = execute(job, tmp_path / "run", report=False).summary
    assert figures["queries.languages.in_words"] == 1
    assert figures["queries.languages.fields"] == 3
    own = "queries.languages.na-ica.suppress"
    assert figures[f"{own}.related"] < min(figures[f"{own}.matched"], figures[f"{own}.unrelated"])


def test_letters_at_chance_give_way_to_words(tmp_path: Path) -> None:
    """A tiny random model chooses no letters: facts or questions are asked in words."""
    from broca.studies.queries import QueriesConfig

    path = write_rows(tmp_path / "questions.jsonl", rows(2, 8))
    model: Any = tiny_model("llama")

    class Bench:
        def __init__(self) -> None:
            self.model = model

        def find_letters(self, prompts: Any, variant: str) -> Any:
            from broca.choices import find_letters

            return list(find_letters(model, prompts, variant=variant))

    config = QueriesConfig(questions=str(path), answer="auto", n_prompts=1)
    bench: Any = Bench()
    assert Material(config)._choose("field", bench) == "words"
