"""Letters or words: a model at chance is asked in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broca.studies.queries.material import Material
from query_files import rows, write_rows
from tiny import tiny_model

pytestmark = pytest.mark.slow


def test_letters_at_chance_give_way_to_words(tmp_path: Path) -> None:
    """A tiny random model chooses no letters: facts or questions are asked in words."""
    from broca.studies.queries import QueriesConfig

    path = write_rows(tmp_path / "questions.jsonl", rows(2, 8))
    model: Any = tiny_model("llama")

    class Bench:
        def __init__(self) -> None:
            self.model = model

        def try_forms(self, forms: Any, variant: str) -> Any:
            from broca.choices import find_letters

            return {
                form: list(find_letters(model, prompts, variant=variant))
                for form, prompts in forms.items()
            }

    config = QueriesConfig(questions=str(path), answer="auto", n_prompts=1)
    bench: Any = Bench()
    assert Material(config)._choose("field", bench) == "words"
