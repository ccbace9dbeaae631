"""Several studies in one run: shared conditions, the dry run, the report, the committed recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from broca.recipes import load_recipe
from broca.report import Figure
from broca.run import execute, read_job
from broca.run.dry import dry_run
from broca.studies import load_family
from planted import planted_world
from relation_bench import SETTINGS, write_facts, write_texts

RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "relations").glob("*.toml"))
STUDIES = ("intra", "inter", "cumulativity", "versatility", "interference", "languages", "layers")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    world, place = planted_world(), tmp_path_factory.mktemp("planted")
    return read_job(
        {
            **{key: list(v) if isinstance(v, tuple) else v for key, v in SETTINGS.items()},
            **write_texts(place, world),
            "studies": [f"relations.{name}" for name in STUDIES],
            "model": "planted",
            "facts": str(write_facts(place / "facts", world)),
            "relations": ["father", "mother", "ceo", "country"],
            "ladder": [1, 2, 4, 8],
            "n_evaluation": 8,
            "n_permutations": 200,
        }
    )


@pytest.fixture(scope="module")
def run(job, tmp_path_factory):
    model = planted_world().language_model()
    with pytest.MonkeyPatch.context() as patch:  # downloads are tested elsewhere, and take long
        patch.setattr(Figure, "file", lambda self, kind: b"")
        return execute(job, tmp_path_factory.mktemp("run") / "run", model=model)


def test_conditions_are_shared(run):
    summary = run.summary
    assert summary["rows.computed"] >= summary["rows.needed"] > 500
    assert summary["rows.computed_per_needed"] <= 1.05
    rows = run.rows.read(columns=["study"])
    studies = set(rows.column("study").to_pylist())
    assert "relations.versatility" not in studies  # all it needs was measured by others


def test_every_study_has_figures_in_the_summary(run):
    heads = {key.partition(".")[0] for key in run.summary}
    assert heads >= {"effect", "cumulativity", "versatility", "interference", "languages", "layers"}


def test_the_first_screen_answers_the_four_questions(run):
    page = (run.path / "report.html").read_text(encoding="utf-8")
    for question in (
        "Are there relation neurons?",
        "Do they act together, beyond a random order?",
        "Do relations share neurons beyond chance?",
        "Do they hold across languages?",
    ):
        assert question in page
    for section in ("Cumulativity", "Versatility", "Interference", "Across languages", "Layers"):
        assert section in page


def test_a_dry_run_counts_what_the_run_computes(job, run):
    """No more than that: two sets of the run may hold the same neurons, drawn ones do not."""
    found = dry_run(job, planted_world().language_model())
    assert 1 <= found.evaluations / run.summary["rows.computed"] < 1.4
    assert 1 <= found.pairs / run.summary["rows.needed"] < 1.4
    assert found.seconds > 0
    assert {study.study for study in found.studies} >= {f"relations.{name}" for name in STUDIES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_committed_recipes_are_read(path):
    job = read_job(load_recipe(path), str(path))
    assert job.studies
    if path.stem.startswith("paper"):
        assert set(job.studies) == set(load_family("relations").studies)
