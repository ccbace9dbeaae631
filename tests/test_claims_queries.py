"""The query studies on the planted model: what was planted is found, and does what it should."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from broca.model import LanguageModel
from broca.questions import write_questions
from broca.run import execute, read_job
from broca.scores import QuerySets
from broca.store import RunFolder
from planted import FIELD_LAYER, planted_world
from query_files import planted_questions

SETTINGS = {
    "studies": ["queries.effect"],
    "n_prompts": 2,
    "n_unrelated": 2,
    "n_matched": 2,
    "methods": ["na-ica", "na", "random"],
    "n_resamples": 200,
    "n_permutations": 200,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    world, place = planted_world(), tmp_path_factory.mktemp("planted")
    questions = write_questions(planted_questions(world, 4), place / "questions.jsonl")
    model = LanguageModel(world.module, world.tokenizer, name="planted")
    job = read_job({**SETTINGS, "questions": str(questions)})
    return execute(job, place / "run", model=model, report=False)


@pytest.fixture(scope="module")
def sets(run: RunFolder) -> QuerySets:
    return QuerySets.load(run.path / "sets" / "queries.parquet")


def test_every_query_finds_the_region_of_its_field_and_little_that_was_not_planted(
    run: RunFolder, sets: QuerySets
) -> None:
    world = planted_world()
    fields = {
        r["query"]: r["field"]
        for r in run.read_json("findings.json")["queries.effect"]["tables"]["queries"]
    }
    others = {neuron for neurons in world.letters.values() for neuron in neurons}
    others |= {neuron for neurons in world.planted.values() for neuron in neurons}
    for query, field in fields.items():
        found = set(sets.neurons(query))
        assert set(world.fields[field]) <= found
        elsewhere = {n for f, region in world.fields.items() if f != field for n in region}
        assert not found & elsewhere
        assert len(found - set(world.fields[field]) - others) <= 2


def test_common_neurons_are_found_and_removed(sets: QuerySets) -> None:
    world = planted_world()
    common = set(sets.common_neurons())
    assert set(world.common) <= common
    assert not common & {neuron for query in sets.queries for neuron in sets.neurons(query)}
    assert {n.layer for n in world.common} == {FIELD_LAYER, FIELD_LAYER + 1}


def test_suppressing_own_neurons_lowers_the_answer_and_random_ones_do_not(run: RunFolder) -> None:
    figures = run.summary
    own = "queries.na-ica.suppress"
    assert figures[f"{own}.related"] < -0.5
    assert abs(figures[f"{own}.unrelated"]) < 0.2
    assert figures[f"{own}.difference.low"] > 0.3
    assert figures[f"{own}.pcr"] > 3
    assert abs(figures[f"{own}.matched"]) < 0.1
    assert figures[f"{own}.p_matched"] < 0.01
    assert abs(figures["queries.random.suppress.related"]) < 0.15
    assert figures["queries.random.suppress.na-ica_beyond.low"] > 0.3
    for field in ("person", "company", "place", "product"):
        assert figures[f"queries.fields.{field}.na-ica.suppress.related"] < -0.4


def test_without_inverse_clusters_common_neurons_move_every_answer(run: RunFolder) -> None:
    figures = run.summary
    assert figures["queries.na.suppress.unrelated"] < -0.5
    assert figures["queries.na.suppress.pcr"] < figures["queries.na-ica.suppress.pcr"]


def test_attributions_converge_and_letters_are_right(run: RunFolder) -> None:
    assert run.summary["attribution.converged_share"] >= 0.9
    assert run.summary["queries.accuracy"] == 1.0
    assert run.summary["queries.near_chance"] == 0


def test_rows_tell_what_was_done(run: RunFolder) -> None:
    table = run.rows.read()
    assert table.num_rows == run.summary["rows.computed"] == run.summary["rows.needed"]
    assert set(table.column("study").to_pylist()) == {"queries.effect"}
    clean = table.filter(pc.field("intervention") == "none")
    assert clean.column("p_before").equals(clean.column("p_after"))
    edited = table.filter(pc.field("intervention") == "scale")
    assert set(edited.column("factor").to_pylist()) == {0.0, 2.0}
    assert {"na-ica", "na", "random"} <= set(edited.column("method").to_pylist())
    p = np.exp(edited.column("log_p").to_numpy())
    assert np.allclose(p, edited.column("p_after").to_numpy())
    # the untouched probability is the same in every batch
    before = {}
    for prompt, value in zip(
        table.column("prompt").to_pylist(), table.column("p_before").to_pylist(), strict=True
    ):
        assert before.setdefault(prompt, value) == pytest.approx(value, rel=1e-4)
