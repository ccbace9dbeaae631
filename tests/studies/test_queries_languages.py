"""Languages: never crossed with fields, in letters and in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broca.errors import QuestionsError
from broca.run import execute, read_job
from broca.studies.queries import QueriesConfig
from broca.studies.queries.asking import read_questions
from query_files import rows, write_rows


@pytest.mark.slow
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


def test_fields_and_languages_are_never_crossed(tmp_path: Path) -> None:
    listed = [{**row, "language": ("en", "de")[i // 4]} for i, row in enumerate(rows(2, 4))]
    path = write_rows(tmp_path / "q.jsonl", listed)
    config = QueriesConfig(questions=str(path), languages=("en", "de"), per_language=3)
    by_field = read_questions(config, "field")
    assert {q.language for q in by_field} == {"en"}
    assert {q.field for q in by_field} == {"field0", "field1"}
    by_language = read_questions(config, "language")
    assert [q.field for q in by_language] == ["en"] * 3 + ["de"] * 3
    with pytest.raises(QuestionsError, match="two languages"):
        read_questions(replace(config, languages=("en",)), "language")
