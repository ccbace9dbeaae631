"""One run of the planted model for the tests of the query studies."""

from __future__ import annotations

import pytest

from broca.model import LanguageModel
from broca.prompts import render_question_prompts
from broca.questions import write_questions
from broca.run import execute, read_job
from broca.scores import QuerySets
from planted import planted_world
from planted_run import PlantedRun
from query_files import planted_questions

STUDIES = ("effect", "positions", "replacement", "controls", "truth")


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> PlantedRun:
    world, place = planted_world(), tmp_path_factory.mktemp("planted")
    asked = planted_questions(world, 4)
    questions = write_questions(asked, place / "questions.jsonl")
    model = LanguageModel(world.module, world.tokenizer, name="planted")
    settings = {
        "studies": [f"queries.{name}" for name in STUDIES],
        "questions": str(questions),
        "n_prompts": 2,
        "n_unrelated": 2,
        "n_same": 1,
        "n_matched": 1,
        "n_active": 1,
        "n_truth": 2,
        "methods": ["na-ica"],
        "n_resamples": 100,
        "n_permutations": 100,
    }
    folder = execute(read_job(settings), place / "run", model=model)
    sets = QuerySets.load(folder.path / "sets" / "queries.parquet")
    return PlantedRun(folder, model, sets, render_question_prompts(asked, n_prompts=2))
