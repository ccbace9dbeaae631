"""General language is spared; files of sentences."""

from __future__ import annotations

import pytest

from broca.errors import FactsError
from broca.studies.relations.general import GeneralLanguage
from broca.studies.relations.texts import load_carriers, load_frequencies, load_prose
from relation_bench import done


def test_general_language_is_spared():
    plan, _, found = done(GeneralLanguage())
    assert all(p.text.endswith("know that") for p in plan.groups["carriers/father"])
    assert found.figures["general.relations_hurt"] == 0
    assert found.figures["general.loss_asked"] > 1
    assert abs(found.figures["general.loss"]) < 0.05


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
