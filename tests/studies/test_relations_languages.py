"""Languages: the full matrix of the planted model, and languages without facts."""

from __future__ import annotations

from broca.studies.relations.languages import Languages
from relation_bench import done, prepared


def test_languages_full_matrix():
    plan, results, found = done(Languages())
    cells = {(c["found"], c["asked"]): c for c in found.tables["matrix"]}
    assert set(cells) == {(a, b) for a in ("en", "de") for b in ("en", "de")}
    for cell in cells.values():
        assert cell["relations"] == 8
        assert cell["own_drop"] > 0.9
        assert abs(cell["matched_drop"]) < 0.1
        assert cell["other_drop"] < 0.1
    assert found.figures["languages.relations_significant"] == 8
    assert found.figures["languages.overlap_same_relation"] > 0.8
    german = results.extra["tongues"][1]
    asked = plan.groups["evaluation-de/father"]
    assert [p.fact for p in asked] == [p.fact for p in prepared().material.evaluation["father"]]
    assert german.sets["father"].name == "father.de"


def test_a_language_without_facts_is_left_out_with_its_reason():
    found = done(Languages(), languages=("fr",)).found
    assert {r["relation"] for r in found.tables["skipped"]} == set(prepared().material.names)
    assert any("Left out in fr" in words for words in found.words)
    assert [c["relations"] for c in found.tables["matrix"] if c["asked"] == "fr"] == [0, 0]
