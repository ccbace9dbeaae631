"""Where neurons of fields lie: planted regions, and shuffled fields that are not found."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.errors import QuestionsError, RecipeError
from broca.report.parts import figure
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.embedding import Embedding
from broca.studies.queries.localisation import Localisation
from broca.studies.queries.overlap import Overlap
from broca.studies.study import Results
from planted import FIELD_LAYER, planted_world
from planted_run import REGIONS, tables
from planted_words import FIELDS
from query_files import rows, write_rows
from query_parts import part_of
from tiny import tiny_model

SVG = "http://www.w3.org/2000/svg"


STUDIES = ["queries.localisation", "queries.overlap", "queries.embedding"]


def test_planted_regions_are_found(planted_regions: RunFolder) -> None:
    world = planted_world()
    found = tables(planted_regions, "queries.localisation")
    for field in FIELDS:
        cells = sorted(
            (cell for cell in found["maps"] if cell["field"] == field),
            key=lambda cell: -cell["score"],
        )
        region = {n.index // 4 for n in world.fields[field]}  # 128 neurons in 32 bins
        top = cells[: planted_regions.summary["queries.localisation.top_cells"]]
        assert any(c["layer"] == FIELD_LAYER and c["bin"] in region for c in top), field
        start = f"queries.localisation.fields.{field}.share"
        figures = planted_regions.summary
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
    words = planted_regions.read_json("findings.json")["queries.localisation"]["words"]
    assert "queries of one field share places" in words[0]
    assert "4 of 4" in words[1]


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


def test_shuffled_fields_are_not_found(
    planted_regions: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        results = Results({}, {}, {"part": shuffled_part(planted_regions, seed)})
        for name, study in studies.items():
            found = study.summarise(material, results)
            rejected[name] += found.figures[name] < 0.05
            told = "it cannot be told" in found.words[0]
            assert told == (found.figures[name] >= 0.05)
    assert max(rejected.values()) <= 2, rejected  # 8 · 0.05 but for chance


def test_a_model_that_knows_nothing_by_field_and_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [{**row, "language": "de" if i // 2 % 2 else "en"} for i, row in enumerate(rows(2, 6))]
    path = write_rows(tmp_path / "questions.jsonl", listed)
    studies = ["queries.find", *STUDIES, *(f"{study}.languages" for study in STUDIES)]
    job = read_job(
        {**REGIONS, "studies": [*studies, "queries.common"], "questions": str(path), "u": 0.9}
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


def test_maps_are_drawn(planted_regions: RunFolder, tmp_path: Path) -> None:
    from broca.report.queries.localisation import localisation_section
    from broca.report.queries.overlap import overlap_section
    from broca.report.stored_run import StoredRun

    run = StoredRun(planted_regions)
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
    job = read_job({**REGIONS, "studies": [STUDIES[0]], "questions": str(path), "u": 0.9})
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
