"""The facts of LRE as shipped: clean, in wordings that suit every form."""

from __future__ import annotations

import tomllib
import unicodedata
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from broca.errors import FactsError
from broca.facts import RELATION_NAMES, Relations, load_relations
from broca.facts.shipped import facts_for
from broca.prompts import FORMS, Form, render_fact_prompts
from broca.prompts.forms import question_end
from broca.questions import load_questions

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lre() -> Relations:
    return load_relations("lre")


def test_all_relations_of_the_data_set_are_there(lre: Relations) -> None:
    assert len(lre) == 47
    assert len(lre.facts) == 10_996
    assert len(lre["landmark_continent"]) == 945
    assert lre["landmark_on_continent"].name == "landmark_continent"
    assert tuple(load_relations("lre", relations="paper")) == RELATION_NAMES


def test_subjects_come_once_and_their_objects_are_sets(lre: Relations) -> None:
    for relation in lre.values():
        subjects = Counter(fact.subject.casefold() for fact in relation.facts)
        assert subjects.most_common(1)[0][1] == 1, relation.name
        for fact in relation.facts:
            assert len(set(fact.objects)) == len(fact.objects)
            for text in (fact.subject, *fact.objects):
                assert text == " ".join(text.split()) == unicodedata.normalize("NFC", text)
                assert "\\u" not in text
    guitarists = {f.subject: f.objects for f in lre["person_plays_instrument"].facts}
    assert set(guitarists["Eric Clapton"]) >= {"guitar"}
    assert len(guitarists["Tom Fletcher"]) > 1
    capitals = {f.subject: f.objects for f in lre["country_capital_city"].facts}
    assert capitals["Brazil"] == ("Brasília",)
    nvidia = [f for f in lre["company_ceo"].facts if f.subject.casefold() == "nvidia"]
    assert [fact.objects for fact in nvidia] == [("Jensen Huang", "Jen-Hsun Huang")]


def test_every_relation_has_wordings_of_both_kinds_in_both_sets(lre: Relations) -> None:
    for relation in lre.values():
        for name in ("finding", "robustness"):
            wordings = relation.wordings(name)
            asked = [wording for wording in wordings if question_end(wording) == len(wording)]
            assert len(asked) >= 2, (relation.name, name)
            assert len(wordings) - len(asked) >= 3, (relation.name, name)
        assert not set(relation.wordings()) & set(relation.wordings("robustness"))


@pytest.mark.parametrize("form", [*FORMS, "Q: {wording}\nA:"])
def test_they_can_be_asked_in_every_form(lre: Relations, form: str) -> None:
    detection, evaluation = lre.split(5)
    prompts = render_fact_prompts(
        evaluation, form=form, demonstrations=detection, chat="<{}>".format
    )
    assert len(prompts) == 5 * 47
    wanted = Form(form, chat=str).candidates(("{} is", "Where is {}?"))
    for prompt in prompts:
        assert prompt.subject in prompt.text
        if wanted == [1]:
            assert "?" in prompt.text
        if wanted == [0]:
            assert not prompt.text.endswith("?")


def test_auto_is_atlas_for_atlas_and_lre_for_others() -> None:
    assert facts_for("auto", embedded=True) == "atlas"
    assert facts_for("auto", embedded=False) == "lre"
    assert facts_for("my.csv", embedded=False) == "my.csv"


def test_questions_from_the_same_facts() -> None:
    questions = load_questions("lre", per_field=3)
    assert {question.field for question in questions} == {q.relation for q in questions}
    assert "name_gender" not in {q.field for q in questions}  # two objects make no four options
    assert len({q.field for q in questions}) == 40
    relations = load_relations("lre")
    for question in questions:
        assert question.question.endswith("?")
        relation = relations[question.relation]
        objects = {o for fact in relation.facts for o in fact.objects}
        assert set(question.options) <= objects
        subject = question.id.removesuffix("@en").split(":", 1)[1]
        (fact,) = (fact for fact in relation.facts if fact.subject == subject)
        assert set(question.options) & set(fact.objects) == {question.right}


@pytest.mark.parametrize("language", ["de", "es", "fr", "zh", "ja"])
def test_eight_relations_in_other_languages(lre: Relations, language: str) -> None:
    names = [n for n in lre if n.startswith(("landmark_", "country_c", "country_lang"))]
    names += ["person_native_language", "person_plays_instrument", "person_pro_sport"]
    there = load_relations("lre", language=language, relations=names)
    for name, relation in there.items():
        english = {fact.id: fact for fact in lre[name].facts}
        known = [fact for fact in relation.facts if fact.id in english]
        assert len(known) == len(relation) > 0.95 * len(english) - 60, name
        for fact in known:
            named = english[fact.id].subject
            assert (fact.subject == named) or name.startswith("country_")
    capitals = {f.id: (f.subject, f.objects) for f in there["country_capital_city"].facts}
    expected = {
        "de": ("Frankreich", "Paris"),
        "es": ("Francia", "París"),
        "fr": ("France", "Paris"),
        "zh": ("法国", "巴黎"),
        "ja": ("フランス", "パリ"),
    }
    subject, city = expected[language]
    assert capitals["country_capital_city:France"] == (subject, (city,))
    assert len(capitals) == 24
    assert len(there["country_language"]) == 24


def test_other_languages_are_there_for_these_only() -> None:
    with pytest.raises(FactsError, match="no facts in language 'de' for company_ceo"):
        load_relations("lre", language="de", relations=["company_ceo"])


def test_questions_of_the_relations_that_are_there_in_a_language() -> None:
    questions = load_questions("lre", languages=["de"], per_field=2)
    assert {question.language for question in questions} == {"de"}
    assert {"landmark_continent", "country_capital_city"} <= {q.field for q in questions}
    assert "company_ceo" not in {question.field for question in questions}


def test_the_licence_of_the_facts_is_told_and_ships() -> None:
    """Facts of others: their licence stands beside them and in what a package index shows."""
    package = files("broca") / "lre"
    assert "MIT License" in (package / "LICENSE").read_text(encoding="utf-8")
    assert "evandez/relations" in (package / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "MIT" in project["license"].split()
    assert [path for path in project["license-files"] if (ROOT / path).is_file()] == [
        "LICENSE",
        "src/broca/lre/LICENSE",
    ]
