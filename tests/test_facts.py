"""Facts: formats, joining of right objects, the global split, and errors that name the line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.errors import FactsError
from broca.facts import (
    RELATION_NAMES,
    Fact,
    Relation,
    Relations,
    UnknownRelationError,
    load_relations,
)

FACTS = (
    '{"subject": "Berlin", "relation": "country", "object": "Germany"}\n'
    '{"subject": "Lyon", "relation": "country", "object": ["France", " Frankreich "]}\n'
    '{"subject": "Lyon", "relation": "river", "object": "Rhône"}\n'
    '{"subject": "Lyon", "relation": "river", "object": "Saône"}\n'
    '{"subject": "Berlin", "relation": "river", "object": "Spree"}\n'
)
TEMPLATES = '[country]\ntemplates = ["{} is in"]\n[river]\ntemplates = ["{} lies on the"]\n'


def write_lre(folder: Path, name: str, **changes: object) -> Path:
    document = {
        "name": name,
        "prompt_templates": ["{}'s CEO is"],
        "prompt_templates_zs": ["{}'s CEO is", "Who leads {}? Their name is"],
        "properties": {"domain_name": "company", "range_name": "person"},
        "samples": [{"subject": "Acme", "object": "Ann"}, {"subject": "Bolt", "object": "Bob"}],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**document, **changes}, indent=1), encoding="utf-8")
    return path


def write_table(folder: Path, rows: str = FACTS, templates: str = TEMPLATES) -> Path:
    (folder / "templates.toml").write_text(templates, encoding="utf-8")
    path = folder / "world.jsonl"
    path.write_text(rows, encoding="utf-8")
    return path


def make_relations(subjects: dict[str, list[str]]) -> Relations:
    return Relations(
        Relation(name, tuple(Fact(s, name, ("x",)) for s in members), {"finding": ("{} is",)})
        for name, members in subjects.items()
    )


# --- formats -------------------------------------------------------------------------------


def test_lre_file_has_its_own_templates_and_kinds(tmp_path: Path) -> None:
    relation = load_relations(write_lre(tmp_path, "company_ceo"))["company_ceo"]
    assert relation.templates == {
        "finding": ("{}'s CEO is",),
        "robustness": ("Who leads {}? Their name is",),
    }
    assert (relation.field, relation.concept, relation.object_kind) == (
        "companies", "company", "person",
    )  # fmt: skip
    assert [(f.subject, f.objects, f.id) for f in relation.facts] == [
        ("Acme", ("Ann",), "company_ceo:Acme"),
        ("Bolt", ("Bob",), "company_ceo:Bolt"),
    ]


def test_lre_file_with_zero_shot_wordings_only(tmp_path: Path) -> None:
    path = write_lre(tmp_path, "company_ceo", prompt_templates=[])
    sets = load_relations(path)["company_ceo"].templates
    assert sets == {"finding": ("{}'s CEO is", "Who leads {}? Their name is")}


def test_lre_folder_names_and_paper_names_mean_the_same(tmp_path: Path) -> None:
    write_lre(tmp_path, "landmark_on_continent")
    write_lre(tmp_path, "my_own")
    relations = load_relations(tmp_path)
    assert list(relations) == ["landmark_continent", "my_own"]
    assert relations["landmark_on_continent"] is relations["landmark_continent"]
    assert "landmark_on_continent" in relations
    assert relations["my_own"].field == "my_own"
    assert list(load_relations(tmp_path, relations=["landmark_on_continent"])) == [
        "landmark_continent"
    ]


def test_a_subject_that_comes_twice_is_one_fact_with_all_objects(tmp_path: Path) -> None:
    relations = load_relations(write_table(tmp_path))
    assert [f.objects for f in relations["river"].facts] == [("Rhône", "Saône"), ("Spree",)]
    assert relations["country"].facts[1].objects == ("France", "Frankreich")


def test_csv_equals_jsonl_and_decomposed_letters_are_composed(tmp_path: Path) -> None:
    rows = "subject,relation,object\nLyon,river,Rho\u0302ne\nLyon,river,Saône\nBerlin,river,Spree\n"
    path = write_table(tmp_path).with_suffix(".csv")
    path.write_text(rows, encoding="utf-8-sig")
    from_csv = load_relations(path)["river"]
    assert from_csv == load_relations(tmp_path / "world.jsonl")["river"]


def test_language_picks_objects_and_wordings_but_ids_stay(tmp_path: Path) -> None:
    rows = (
        '{"id": "c/1", "relation": "country", "subject": "Berlin", "band": 2, "derived": true,'
        ' "objects": {"en": ["Germany"], "de": ["Deutschland"]}}\n'
        '{"id": "c/2", "relation": "country", "subject": "Lyon",'
        ' "objects": {"en": ["France"], "de": ["Frankreich"]}}\n'
    )
    templates = (
        '[country]\nfield = "places"\n[country.templates.en]\nfinding = ["{} is in"]\n'
        'held_out = ["{} lies in"]\n[country.templates.de]\nfinding = ["{} liegt in"]\n'
    )
    path = write_table(tmp_path, rows, templates)
    english, german = load_relations(path), load_relations(path, language="de")
    assert [f.objects for f in german["country"].facts] == [("Deutschland",), ("Frankreich",)]
    assert german["country"].wordings() == ("{} liegt in",)
    assert german.language == "de"
    assert [f.id for f in english.facts] == [f.id for f in german.facts] == ["c/1", "c/2"]
    assert (english.facts[0].band, english.facts[0].derived) == (2, True)
    with pytest.raises(FactsError, match=r"template set 'held_out' in de.*finding"):
        german["country"].wordings("held_out")
    with pytest.raises(FactsError, match=r"language 'fr'.*Languages there: de, en"):
        load_relations(path, language="fr")


def test_companions_come_only_when_asked_for(tmp_path: Path) -> None:
    path = write_table(tmp_path, templates=TEMPLATES + "companion = true\n")
    assert list(load_relations(path)) == ["country"]
    assert list(load_relations(path, include_companions=True)) == ["country", "river"]
    assert list(load_relations(path, relations=["river"])) == ["river"]


def test_given_templates_take_the_place_of_the_folders_own(tmp_path: Path) -> None:
    write_lre(tmp_path, "company_ceo")
    write_lre(tmp_path, "my_own")
    toml = tmp_path / "t.toml"
    toml.write_text('[company_ceo]\ntemplates = ["{} is led by"]\n', encoding="utf-8")
    relations = load_relations(tmp_path, templates=toml)
    assert relations["company_ceo"].templates == {"finding": ("{} is led by",)}
    assert relations["company_ceo"].concept == "company"
    assert relations["my_own"].wordings() == ("{}'s CEO is",)
    assert load_relations(tmp_path, templates={"company_ceo": ["{} is led by"]}) == relations


def test_atlas_has_the_twelve_relations_with_most_subjects_shared() -> None:
    relations = load_relations("atlas")
    assert set(relations) == set(RELATION_NAMES)
    assert {r.field for r in relations.values()} == {
        "companies", "places", "people", "music", "sports", "sky",
    }  # fmt: skip
    assert all(
        {"finding", "robustness", "held_out"} <= set(r.templates) for r in relations.values()
    )


def test_hash_changes_with_content_but_not_with_order(tmp_path: Path) -> None:
    relations = load_relations(write_table(tmp_path))
    assert relations.subset(["river", "country"]).hash == relations.hash
    assert relations.subset(["river"]).hash != relations.hash
    other = load_relations(write_table(tmp_path, FACTS.replace("Spree", "Havel")))
    assert other.hash != relations.hash


def test_facts_load_no_torch() -> None:
    code = (
        "import sys, broca.facts, broca.questions, broca.prompts;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'datasets')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the split -----------------------------------------------------------------------------

WORLDS = st.dictionaries(
    st.sampled_from("abcde"),
    st.sets(st.integers(0, 30).map(lambda n: f"s{n}"), min_size=2, max_size=25).map(sorted),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(WORLDS, st.integers(1, 12), st.integers(0, 3))
def test_no_subject_is_in_both_parts_of_any_relations(
    world: dict[str, list[str]], n: int, seed: int
) -> None:
    try:
        detection, evaluation = make_relations(world).split(n, seed)
    except FactsError:  # its reasons have a test of their own
        return
    detected = {fact.subject for fact in detection.facts}
    evaluated = {fact.subject for fact in evaluation.facts}
    assert not detected & evaluated
    for name, subjects in world.items():
        assert {f.subject for f in detection[name].facts} <= set(subjects)
        wanted = min(n, len(subjects) // 2)
        assert 1 <= len(evaluation[name]) <= wanted
        assert len(detection[name]) >= len(subjects) - len(subjects) // 2
        short = any("instead of" in note for note in evaluation[name].notes)
        assert short == (len(evaluation[name]) < n)


@settings(max_examples=30, deadline=None)
@given(WORLDS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_split_does_not_depend_on_order(
    world: dict[str, list[str]], n: int, rng: random.Random
) -> None:
    names = rng.sample(list(world), len(world))
    shuffled = {name: rng.sample(world[name], len(world[name])) for name in names}
    try:
        first = make_relations(world).split(n, 1)
    except FactsError:
        with pytest.raises(FactsError):
            make_relations(shuffled).split(n, 1)
        return
    second = make_relations(shuffled).split(n, 1)
    for one, two in zip(first, second, strict=True):
        assert {k: v.facts for k, v in one.items()} == {k: v.facts for k, v in two.items()}


def test_relations_that_share_most_subjects_still_reach_the_number() -> None:
    people = [f"p{i}" for i in range(200)]
    relations = make_relations(
        {"father": people[:190], "mother": people[10:], "rare": people[:110]}
    )
    detection, evaluation = relations.split(50, seed=3)
    assert {len(r) for r in evaluation.values()} == {50}
    assert all(len(detection[name]) >= len(relations[name]) / 2 for name in relations)
    for name, note in ((r.name, note) for r in evaluation.values() for note in r.notes):
        left_out = len(relations[name]) - len(detection[name]) - 50
        assert note.startswith(f"{name}: {left_out} of {len(relations[name])} facts left out")


def test_seed_changes_the_split_and_one_relation_splits_alone() -> None:
    relation = make_relations({"r": [f"s{i}" for i in range(120)]})["r"]
    detection, evaluation = relation.split(50, seed=0)
    assert (len(detection), len(evaluation), evaluation.notes) == (70, 50, ())
    assert relation.split(50, seed=0)[1] == evaluation
    assert relation.split(50, seed=1)[1] != evaluation


def test_small_relation_gives_half_and_says_so() -> None:
    _, evaluation = make_relations({"r": ["a", "b", "c", "d", "e"]}).split(50)
    assert len(evaluation["r"]) == 2
    assert evaluation.notes == ("r: 2 evaluation facts instead of 50, at most half of its 5",)


@pytest.mark.parametrize("world", [{"r": ["a"]}, {"r": ["a", "b"], "q": ["a"]}])
def test_too_few_facts_to_split(world: dict[str, list[str]]) -> None:
    with pytest.raises(FactsError, match="too few facts to split"):
        make_relations(world).split(50)


# --- mistakes ------------------------------------------------------------------------------


def failure(source: Path, **options: object) -> str:
    with pytest.raises(FactsError) as caught:
        load_relations(source, **options)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    assert "no such file or folder" in failure(tmp_path / "nowhere")
    assert "holds no facts" in failure(tmp_path)
    (tmp_path / "e.jsonl").write_text(" \n")
    assert "the file is empty" in failure(tmp_path / "e.jsonl")
    (tmp_path / "e.txt").write_text("x")
    assert "'.txt' are not known" in failure(tmp_path / "e.txt")
    (tmp_path / "h.csv").write_text("subject,relation,object\n")
    assert "no facts in the file" in failure(tmp_path / "h.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (FACTS + "{oops}\n", r"malformed JSON.*world\.jsonl, line 6"),
        (FACTS + "[1]\n", r"not a JSON object.*line 6"),
        ('{"subject": "a", "object": "b"}\n', r"missing column relation.*line 1.*there are: sub"),
        ('\n{"subject": " ", "relation": "r", "object": []}\n', r"empty subject, object.*line 2"),
        (FACTS.replace('"Spree"', '"Spree", "band": "x"'), r"band is no number.*line 5"),
        (
            FACTS.replace('"country"', '"country", "id": "same"'),
            r"two facts have the id 'same'.*line 2",
        ),
    ],
)
def test_bad_rows_name_their_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(FactsError, match=message):
        load_relations(write_table(tmp_path, rows))


def test_csv_line_with_too_many_values(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("subject,relation,object\na,r,b\na,r,b,c\n")
    assert "x.csv, line 3" in failure(tmp_path / "x.csv")


def test_malformed_lre_names_line_and_sample(tmp_path: Path) -> None:
    path = write_lre(tmp_path, "r", samples=[{"subject": "a", "object": "b"}, {"subject": "c"}])
    lines = path.read_text().split("\n")
    line = next(i for i, text in enumerate(lines, 1) if '"c"' in text) - 1  # its opening brace
    assert f"r.json, line {line}" in failure(path)
    path.write_text('{"samples": [\n{"subject" "a"}]}')
    assert "malformed JSON" in failure(path)
    assert "line 2" in failure(path)
    path.write_text('{"facts": []}')
    assert "no list of samples" in failure(path)
    write_lre(tmp_path, "person_pro_sport")
    path.unlink()
    write_lre(tmp_path, "person_plays_pro_sport")
    assert "two files hold the relation person_pro_sport" in failure(tmp_path)


def test_templates_without_or_with_two_slots(tmp_path: Path) -> None:
    path = write_lre(tmp_path, "r", prompt_templates=["fine {}", "no slot"])
    line = next(i for i, t in enumerate(path.read_text().split("\n"), 1) if "no slot" in t)
    assert f"line {line}" in failure(path)
    assert "not exactly one slot: 'no slot'" in failure(path)
    two = TEMPLATES.replace("{} lies on the", "{} of {} is")
    assert "templates.toml, line 4" in failure(write_table(tmp_path, templates=two))
    assert "relation river has no templates" in failure(
        write_table(tmp_path, templates='[country]\ntemplates = ["{} is in"]\n')
    )
    assert "not a list" in failure(write_table(tmp_path, templates='country = "{} is"\n'))
    assert "malformed TOML" in failure(write_table(tmp_path, templates="[country\n"))


def test_unknown_relations_suggest_the_nearest(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    with pytest.raises(UnknownRelationError, match=r"Did you mean 'country'\?.*country, river"):
        load_relations(path, relations=["contry"])
    relations = load_relations(path)
    with pytest.raises(KeyError, match="unknown relation 'lake'"):
        relations["lake"]
    assert relations.get("lake") is None
    assert str(UnknownRelationError("x")) == "x"


def test_several_relations_can_be_required(tmp_path: Path) -> None:
    relations = load_relations(write_table(tmp_path))
    assert relations.require_several() is relations
    with pytest.raises(FactsError, match="2 relations are needed, there is 1"):
        relations.subset(["river"]).require_several()


@pytest.mark.parametrize("name", ["capital of country", "a.b", 'x "y"', "국가", "plain"])
def test_what_an_error_suggests_is_toml(tmp_path: Path, name: str) -> None:
    """What is to be written into the templates file is taken when it is written there."""
    path = tmp_path / "world.jsonl"
    path.write_text(json.dumps({"subject": "France", "relation": name, "object": "Paris"}))
    with pytest.raises(FactsError) as refused:
        load_relations(path)
    table = str(refused.value).split("templates file with ")[1].split(" and below it")[0]
    (tmp_path / "world.toml").write_text(f'{table}\ntemplates = ["{{}} is"]\n', encoding="utf-8")
    assert list(load_relations(path)) == [name]


def test_unknown_keys_of_templates_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path, templates='[country]\ntemplate = ["{} is in"]\n')
    with pytest.raises(FactsError, match=r"unknown key 'template'.*Known: templates, field"):
        load_relations(path)
