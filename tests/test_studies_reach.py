"""Studies of how far neurons reach: languages, wordings, sentences, concepts, frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from broca.errors import FactsError
from broca.studies.relations.concept import Concept
from broca.studies.relations.general import GeneralLanguage
from broca.studies.relations.languages import Languages
from broca.studies.relations.layers import Layers, third_of
from broca.studies.relations.resilience import Resilience, relative_difference
from broca.studies.relations.templates import OtherTemplates
from broca.studies.relations.texts import load_carriers, load_frequencies, load_prose
from relation_bench import K, done, prepared


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


def test_other_wordings():
    found = done(OtherTemplates(), other_templates=("robustness", "held_out")).found
    wordings = {record["wordings"]: record for record in found.tables["wordings"]}
    assert wordings["robustness"]["significant"] == 8
    assert wordings["robustness"]["own_drop"] > 0.9
    assert "held_out" not in wordings
    assert len(found.tables["lacking"]) == 8


def test_layers_count_every_neuron_once():
    found = done(Layers()).found
    assert sum(place["n"] for place in found.tables["places"]) == 8 * K
    assert [third_of(layer, 6) for layer in range(6)] == [
        *("lower", "lower", "middle", "middle", "upper", "upper")
    ]
    assert sum(found.figures[f"layers.{t}"] for t in ("lower", "middle", "upper")) == (
        pytest.approx(1)
    )
    assert found.figures["layers.upper"] == 0  # planted in the layers 1 and 2 of 5


def test_general_language_is_spared():
    plan, _, found = done(GeneralLanguage())
    assert all(p.text.endswith("know that") for p in plan.groups["carriers/father"])
    assert found.figures["general.relations_hurt"] == 0
    assert found.figures["general.loss_asked"] > 1
    assert abs(found.figures["general.loss"]) < 0.05


def test_concepts_are_not_relations():
    found = done(Concept()).found
    assert len(found.tables["pairs"]) == 8 * 4
    assert found.figures["concept.shared_own"] < 0.2
    assert found.figures["concept.drop_own_concept"] < 0.1
    assert found.figures["concept.drop_without_concept"] > 0.9


def test_resilience_finds_that_strong_facts_survive():
    """With two of six planted neurons off, facts of tolerance 1 are lost: those of exposure 1."""
    ready = prepared()
    half = {
        name: neurons.take(slice(2), name=f"{name}.two")
        for name, neurons in ready.material.sets.items()
    }
    found = done(Resilience(), sets=half).found
    assert found.figures["resilience.relations"] >= 6
    assert found.figures["resilience.relations_negative"] == found.figures["resilience.relations"]
    assert found.figures["resilience.p_relations"] < 0.05
    assert found.figures["resilience.p_facts"] < 0.001
    shares = [band["resilient"] for band in found.tables["bands"] if band["facts"]]
    assert shares[0] == min(shares) < 0.5
    assert shares[-1] == max(shares) == 1


def test_relative_difference_is_the_papers():
    assert relative_difference([1, 3], [4, 4]) == -0.5
    assert np.isnan(relative_difference([], [4]))


def test_files_of_sentences_and_frequencies(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text(
        '{"kind": "city", "text": "The train to {}"}\n{"kind": "city", "text": "{}!"}\n'
    )
    assert load_carriers(str(path)) == {"city": ["The train to {}"]}
    path.write_text('{"kind": "city", "text": "No slot"}\n')
    with pytest.raises(FactsError, match="line 1"):
        load_carriers(str(path))
    path.write_text("{\n")
    with pytest.raises(FactsError, match="malformed JSON"):
        load_prose(str(path))
    path.write_text("relation,subject,count\nfather,Ada,12\n")
    assert load_frequencies(str(path)) == {"father:Ada": 12.0}
    path.write_text("id,count\nx,many\n")
    with pytest.raises(FactsError, match="line 2"):
        load_frequencies(str(path))
    path.write_text("id,colour\nx,red\n")
    with pytest.raises(FactsError, match="lack a column"):
        load_frequencies(str(path))
    with pytest.raises(FactsError, match="no such file"):
        load_prose(str(tmp_path / "missing.jsonl"))


def test_the_embedded_sentences_are_of_the_right_form():
    assert {"person", "city", "country", "position"} <= set(load_carriers("atlas"))
    assert {record["concept"] for record in load_prose("atlas")} >= {"person", "company", "place"}
