"""Where the neurons of fields lie: twins, what was planted, and that tests can fail."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import hypergeom

from broca.errors import ModelError, QuestionsError, RecipeError
from broca.questions import write_questions
from broca.report.parts import figure
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig, common
from broca.studies.queries.common import letter_record, letter_words
from broca.studies.queries.embedding import (
    Embedding,
    place_on_plane,
)
from broca.studies.queries.localisation import (
    Localisation,
)
from broca.studies.queries.overlap import Overlap
from broca.studies.queries.shuffled import FieldScores, against_shuffled
from broca.studies.study import Results
from planted import FIELD_LAYER, planted_world
from planted_words import FIELDS
from query_files import planted_questions, rows, write_rows
from query_parts import part_of, random_part
from tiny import tiny_model

SVG = "http://www.w3.org/2000/svg"
STUDIES = ["queries.localisation", "queries.overlap", "queries.embedding"]
SETTINGS: dict[str, Any] = {
    "n_prompts": 1,
    "n_permutations": 400,
    "n_resamples": 50,
    "methods": ["na-ica"],
    "map_bins": 32,
}


# ---- the planted model


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    world, place = planted_world(), tmp_path_factory.mktemp("regions")
    questions = write_questions(planted_questions(world, 8), place / "questions.jsonl")
    job = read_job(
        {**SETTINGS, "studies": [*STUDIES, "queries.common"], "questions": str(questions)}
    )
    return execute(job, place / "run", model=world.language_model(), report=False)


def tables(run: RunFolder, study: str) -> dict[str, list[dict[str, Any]]]:
    return run.read_json("findings.json")[study]["tables"]


def test_planted_regions_are_found(planted: RunFolder) -> None:
    world = planted_world()
    found = tables(planted, "queries.localisation")
    for field in FIELDS:
        cells = sorted(
            (cell for cell in found["maps"] if cell["field"] == field),
            key=lambda cell: -cell["score"],
        )
        region = {n.index // 4 for n in world.fields[field]}  # 128 neurons in 32 bins
        top = cells[: planted.summary["queries.localisation.top_cells"]]
        assert any(c["layer"] == FIELD_LAYER and c["bin"] in region for c in top), field
        start = f"queries.localisation.fields.{field}.share"
        figures = planted.summary
        assert figures[start] > figures[f"{start}.shuffled.high"]
        assert figures[f"{start}.p_holm"] < 0.05
        assert figures[f"{start}.p_index_holm"] < 0.05
        here = [cell for cell in cells if cell["layer"] == FIELD_LAYER]
        inside = sum(cell["score"] for cell in here if cell["bin"] in region)
        assert inside > 0.5 * sum(cell["score"] for cell in here)
        total = sum(cell["score"] for cell in cells)
        for record in (r for r in found["profiles"] if r["field"] == field):
            row = sum(cell["score"] for cell in cells if cell["layer"] == record["layer"])
            assert record["share"] == pytest.approx(row / total)
            assert record["layer"] or not row  # nothing was planted in the first layer
    words = planted.read_json("findings.json")["queries.localisation"]["words"]
    assert "queries of one field share places" in words[0]
    assert "4 of 4" in words[1]


def test_planted_fields_share_letter_neurons_alone_and_lie_apart(planted: RunFolder) -> None:
    world, figures = planted_world(), planted.summary
    sets = QuerySets.load(planted.path / "sets" / "queries.parquet")
    points = tables(planted, "queries.embedding")["points"]
    pooled = {
        field: {n for p in points if p["field"] == field for n in sets.neurons(p["query"])}
        for field in FIELDS
    }
    letters = {neuron for neurons in world.letters.values() for neuron in neurons}
    for pair in tables(planted, "queries.overlap")["pairs"]:
        shared = pooled[pair["a"]] & pooled[pair["b"]]
        assert shared <= letters
        assert pair["shared"] == len(shared)
    assert figures["queries.overlap.mean"] < figures["queries.overlap.mean.shuffled.low"]
    assert figures["queries.overlap.mean.p"] < 0.01
    assert figures["queries.embedding.silhouette"] > 0.3
    assert figures["queries.embedding.silhouette.p"] < 0.01
    assert figures["queries.embedding.cosine_within"] > figures["queries.embedding.cosine_between"]
    centres = {
        field: np.mean([(p["x"], p["y"]) for p in points if p["field"] == field], axis=0)
        for field in FIELDS
    }
    nearest = [
        min(FIELDS, key=lambda field: float(np.linalg.norm(centres[field] - (p["x"], p["y"]))))
        for p in points
    ]
    own = [field == p["field"] for field, p in zip(nearest, points, strict=True)]
    assert np.mean(own) > 0.75, own


def test_planted_common_neurons_are_read(planted: RunFolder) -> None:
    world = planted_world()
    common = {r["neuron"]: r for r in tables(planted, "queries.common")["common"]}
    speaking = [n for n in world.common if n.layer == FIELD_LAYER + 1]
    for neuron in world.common:
        record = common[str(neuron)]
        if neuron in speaking:
            assert record["letter"]
            assert set(record["top"].split(" · ")[:4]) == set("ABCD")
            said = {obj for fact in world.facts for obj in fact.objects}
            assert {token.strip() for token in record["bottom"].split(" · ")} <= {
                word.partition(" ")[0] for word in said
            }
        else:  # they raise confidence, which no token reads
            assert (record["letter"], record["top"]) == (False, "")
    assert planted.summary["queries.common.letters.p"] < 0.05


def shuffled_part(run: RunFolder, seed: int) -> Any:
    """The run's queries with the planted fields dealt anew."""
    sets = QuerySets.load(run.path / "sets" / "queries.parquet")
    points = tables(run, "queries.embedding")["points"]
    dealt = np.random.default_rng(seed).permutation([point["field"] for point in points])
    fields = {point["query"]: str(field) for point, field in zip(points, dealt, strict=True)}
    part = part_of({query: {} for query in fields}, fields)
    part.sets, part.found = sets, tuple(fields)
    part.accuracy = lambda **_: SimpleNamespace(low=1.0)
    part.chance = lambda: 0.25
    return part


def test_shuffled_fields_are_not_found(planted: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("broca.studies.queries.embedding")
    monkeypatch.setattr(module, "place_on_plane", lambda vectors, seed: vectors[:, :2])
    material: Any = SimpleNamespace(config=QueriesConfig(n_permutations=200, map_bins=32))
    studies = {
        "x.share.p": Localisation("", "field", "x"),
        "x.mean.p": Overlap("", "field", "x"),
        "x.silhouette.p": Embedding("", "field", "x"),
    }
    rejected = dict.fromkeys(studies, 0)
    for seed in range(8):
        results = Results({}, {}, {"part": shuffled_part(planted, seed)})
        for name, study in studies.items():
            found = study.summarise(material, results)
            rejected[name] += found.figures[name] < 0.05
            told = "it cannot be told" in found.words[0]
            assert told == (found.figures[name] >= 0.05)
    assert max(rejected.values()) <= 2, rejected  # 8 · 0.05 but for chance


# ---- whole runs


def test_a_model_that_knows_nothing_by_field_and_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [{**row, "language": "de" if i // 2 % 2 else "en"} for i, row in enumerate(rows(2, 6))]
    path = write_rows(tmp_path / "questions.jsonl", listed)
    studies = ["queries.find", *STUDIES, *(f"{study}.languages" for study in STUDIES)]
    job = read_job(
        {**SETTINGS, "studies": [*studies, "queries.common"], "questions": str(path), "u": 0.9}
    )
    run = execute(job, tmp_path / "run", model=tiny_model("llama"), report=False)
    assert not run.check()
    # one attribution serves all: two portions of six queries by field, and the same by language
    assert len(list((run.path / "attributions").iterdir())) <= 4
    conditions = run.read_json("conditions.json")
    assert conditions
    assert run.rows.count() == 12
    findings = run.read_json("findings.json")
    for study in studies[1:]:
        assert any("near chance" in text for text in findings[study]["words"]), study
        # these ids do not say which questions are versions of one
        confounded_here = any("confounded" in text for text in findings[study]["words"])
        assert confounded_here == study.endswith(".languages"), study
    assert findings["queries.localisation"]["tables"]["caution"] == [{"near_chance": True}]
    points = findings["queries.embedding.languages"]["tables"]["points"]
    assert {p["language"] for p in points} == {"en", "de"}
    assert {p["field"] for p in points} == {"field0", "field1"}
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: f"<svg xmlns='{SVG}'/>")
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([run], tmp_path / "page.html").read_text(encoding="utf-8")
    for title in (
        "Where the neurons of a field lie",
        "Where the neurons of a language lie",
        "What fields share",
        "What languages share",
        "Queries by their neurons, by language",
        "What common neurons say",
        "Beside the paper",
        "0.35 to 0.49",
        "10 to 15 of 32",
    ):
        assert title in page, title


def test_maps_are_drawn(planted: RunFolder, tmp_path: Path) -> None:
    from broca.report.queries.localisation import localisation_section
    from broca.report.queries.overlap import overlap_section
    from broca.report.stored_run import StoredRun

    run = StoredRun(planted)
    for section in (
        localisation_section(run, "queries.localisation"),
        overlap_section(run, "queries.overlap"),
    ):
        for drawn in section.figures:
            assert "<svg" in drawn.svg, drawn.title
    values = localisation_section(run, "queries.localisation").tables[0].rows
    assert [row[0] for row in values] == ["all", *FIELDS]


def test_one_field_is_refused_and_few_queries_are_said(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "questions.jsonl", rows(1, 6))
    job = read_job({**SETTINGS, "studies": [STUDIES[0]], "questions": str(path), "u": 0.9})
    with pytest.raises(QuestionsError, match="2 fields are needed"):
        execute(job, tmp_path / "run", model=tiny_model("llama"), report=False)
    with pytest.raises(RecipeError, match="map_bins"):
        QueriesConfig(map_bins=0)
    part = part_of({"a": {1: 1.0}, "b": {}}, {"a": "f0", "b": "f1"})
    material: Any = SimpleNamespace(config=QueriesConfig())
    for study in (Localisation, Overlap, Embedding):
        found = study("", "field", "x").summarise(material, Results({}, {}, {"part": part}))
        assert (dict(found.figures), len(found.words)) == ({}, 1)
        assert "Fewer than two fields" in found.words[0]


def test_a_model_whose_tokens_cannot_be_read_says_so(
    planted: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("broca.studies.queries.common")

    def refuse(*_: Any, **__: Any) -> Any:
        raise ModelError("The final norm was not found")

    monkeypatch.setattr(module, "read_values", refuse)
    world = planted_world()
    questions = write_questions(planted_questions(world, 2), tmp_path / "questions.jsonl")
    job = read_job({**SETTINGS, "studies": ["queries.common"], "questions": str(questions)})
    run = execute(job, tmp_path / "run", model=world.language_model(), report=False)
    assert any(
        "cannot be read: The final norm was not found" in text
        for text in run.read_json("findings.json")["queries.common"]["words"]
    )
    assert "queries.common.letters" not in run.summary


def neurons_with(layer: int, letters: int, n: int) -> list[dict[str, Any]]:
    """So many neurons of a layer, the first of them with a letter."""
    return [{"layer": layer, "letter": i < letters} for i in range(n)]


def test_letters_are_compared_with_neurons_of_the_same_layer() -> None:
    pool = neurons_with(0, 50, 50) + neurons_with(1, 0, 50)
    there = letter_record(neurons_with(0, 4, 4), pool, 99, 0)
    assert (there["letters"], there["random"], there["shuffled"], there["p"]) == (1, 1, 1, 1)
    other = letter_record(neurons_with(1, 4, 4), pool, 99, 0)
    assert (other["letters"], other["random"], other["shuffled"], other["p"]) == (1, 0, 0, 0.01)


def test_letters_of_common_neurons_are_exchanged_with_random_ones() -> None:
    """p equals the hypergeometric tail, whatever the pool happens to lack."""
    found = letter_record(neurons_with(3, 1, 5), neurons_with(3, 0, 50), 20_000, 0)
    assert found["p"] == pytest.approx(5 / 55, abs=0.01)
    found = letter_record(neurons_with(3, 3, 6), neurons_with(3, 4, 20), 20_000, 1)
    assert found["p"] == pytest.approx(hypergeom(26, 7, 6).sf(2), abs=0.01)
    assert "it cannot be told" in letter_words(found, 0.05)


def test_a_layer_without_random_neurons_tells_nothing_and_does_not_fail() -> None:
    both = neurons_with(0, 2, 3) + neurons_with(1, 1, 2)
    mixed = letter_record(both, neurons_with(1, 10, 40), 99, 0)
    assert mixed["random"] == 0.25
    alone = letter_record(both, [], 99, 0)
    assert (alone["random"], alone["shuffled"], alone["p"]) == (None, 0.6, 1.0)
    assert "there are none" in letter_words(alone, 0.05)


def test_layers_that_cannot_be_told_from_an_even_spread_are_not_called_even() -> None:
    records = neurons_with(3, 0, 2)
    text = common._layer_words(1, records, 4, 0.4, 0.05)
    assert "cannot be told from" in text
    assert "no more than" not in text
    assert "more than an even spread" in common._layer_words(2, records, 4, 0.01, 0.05)


def test_few_queries_stay_in_a_line_and_pictures_repeat() -> None:
    vectors = np.abs(np.random.default_rng(0).standard_normal((9, 12)))
    first = place_on_plane(vectors, 3)
    assert first.shape == (9, 2)
    np.testing.assert_array_equal(first, place_on_plane(vectors, 3))
    assert place_on_plane(vectors[:3], 0).tolist() == [[0, 0], [1, 0], [2, 0]]
    same = place_on_plane(np.repeat(vectors[:2], 4, axis=0), 0)
    assert np.isfinite(same).all()


def test_a_value_is_compared_by_its_alternative() -> None:
    scores = FieldScores.of(random_part(6), "field")

    def first(codes: np.ndarray) -> np.ndarray:
        return -np.ones((len(codes), 1))

    (equal,) = against_shuffled(scores, first, n=20, seed=0, size=1)
    assert (equal.value, equal.low, equal.p) == (-1.0, -1.0, 1.0)
