"""Runs of the planted model that tests of several studies read."""

from __future__ import annotations

from typing import Any

import pytest

from broca.model import LanguageModel
from broca.prompts import render_question_prompts
from broca.questions import write_questions
from broca.run import execute, read_job
from broca.scores import QuerySets
from broca.store import RunFolder
from planted import planted_world
from planted_files import QUICK, write_planted_facts
from planted_run import APPLICATIONS, REGIONS, PlantedRun
from query_files import planted_questions

STUDIES = ("effect", "positions", "replacement", "controls", "truth")


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    """The planted model."""
    return planted_world().language_model()


@pytest.fixture(scope="session")
def relation_run(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Own neurons, the matrix and the controls of four planted relations."""
    folder = tmp_path_factory.mktemp("effect")
    facts = write_planted_facts(folder / "facts", ("father", "mother", "ceo", "country"))
    job = read_job({**QUICK, "facts": str(facts), "control_template_set": "robustness"})
    return execute(job, folder / "run", model=model, report=False)


@pytest.fixture(scope="session")
def planted_regions(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Where the neurons of planted fields lie."""
    return query_run(tmp_path_factory, REGIONS, 8)


@pytest.fixture(scope="session")
def planted_applications(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Flips and prediction beside the effect."""
    return query_run(tmp_path_factory, APPLICATIONS, 6)


def query_run(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any], per_field: int
) -> RunFolder:
    """Query studies of the planted model, so many questions of every field."""
    world, place = planted_world(), tmp_path_factory.mktemp("planted")
    questions = write_questions(planted_questions(world, per_field), place / "questions.jsonl")
    model = LanguageModel(world.module, world.tokenizer, name="planted")
    job = read_job({**settings, "questions": str(questions)})
    return execute(job, place / "run", model=model, report=False)


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
