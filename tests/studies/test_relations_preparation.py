"""From facts to sets: halves, kinds of answers, the choice of k."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from broca.errors import RecipeError, StudyError
from broca.facts import Fact, Relation, Relations
from broca.prompts import Prompt
from broca.run import execute, read_job
from broca.store import RunFolder
from broca.studies.relations.config import RelationsConfig, number_of_neurons
from broca.studies.relations.forms import Tried, unknown_relations
from broca.studies.relations.preparation import halves
from broca.studies.relations.said import AnswerKinds
from planted_files import QUICK, write_planted_facts


def test_number_of_neurons():
    assert number_of_neurons(3000, 10_000) == 3000
    assert number_of_neurons(0.0036, 835_584) == 3008
    assert number_of_neurons(1e-9, 100) == 1
    with pytest.raises(RecipeError, match="do not exist"):
        number_of_neurons(101, 100)


def test_settings_out_of_range():
    for wrong in ({"k": 0}, {"negatives": 0}, {"k_ladder": (1.5,)}, {"n_evaluation": 0}):
        with pytest.raises(RecipeError):
            RelationsConfig(**wrong)


def test_halves_go_by_subject():
    names = [str(number) for number in range(200)]
    prompts = [Prompt(f"{r}/{s}", "", ("x",), subject=s) for r in "ab" for s in names]
    half = halves(prompts, seed=0)
    assert all(half[f"a/{s}"] == half[f"b/{s}"] for s in names)
    assert 60 < sum(half[f"a/{s}"] == "a" for s in names) < 140
    assert half != halves(prompts, seed=1)


def test_kinds_of_answers():
    def relation(name: str, *objects: str) -> Relation:
        return Relation(name, tuple(Fact(f"s{o}", name, (o,)) for o in objects))

    kinds = AnswerKinds.of(
        Relations([relation("hq", "Paris", "New York"), relation("ceo", "Ann Bell", "Bo")])
    )
    prompt = Prompt("p", "The seat of Electrolux is? Answer:", ("Paris",), relation="hq")

    def kind(text: str) -> str:
        return kinds.kind(prompt, text, False)

    assert kinds.kind(prompt, " anything", True) == "right"
    assert kind(" New York") == "same relation"
    assert kind(" New") == "same relation"  # two tokens need not be a whole object
    assert kind(" Ann B") == "other relation"
    assert kind(" Bo is") == "other relation"
    assert kind(" the") == "function word"
    assert kind(" Electr") == "prompt repeated"
    assert kind(" The seat") == "prompt repeated"
    assert kind(" ?\n") == "nothing"
    assert kind(" Zebra") == "other"


def test_an_answer_may_be_right_in_another_language():
    def hq(language: str, *objects: str) -> Relations:
        facts = [
            Fact(f"s{i}", "hq", (name,), language, f"hq/{i}") for i, name in enumerate(objects)
        ]
        return Relations([Relation("hq", tuple(facts), language=language)])

    kinds = AnswerKinds.of(hq("en", "Munich", "Prague"), hq("de", "München", "Prag"))
    english = Prompt("p", "The seat is?", ("Munich",), relation="hq", language="en", fact="hq/0")
    german = replace(english, text="Der Sitz ist?", answers=("München",), language="de")
    assert kinds.kind(english, " München", False) == "right in another language"
    assert kinds.kind(german, " Munich", False) == "right in another language"
    assert kinds.kind(english, " Mun", False) == "same relation"  # begins its own answer too
    assert kinds.kind(english, " Prag", False) == "same relation"
    assert kinds.kind(german, " München", True) == "right"
    other = replace(english, fact="hq/1", answers=("Prague",))
    assert kinds.kind(other, " München", False) == "same relation"


def test_no_evaluation_subject_is_a_detection_subject(relation_run: RunFolder):
    prompts = relation_run.prompts().values()
    subjects = {
        role: {p["subject"] for p in prompts if p["role"] == role}
        for role in ("detection", "evaluation")
    }
    assert not subjects["detection"] & subjects["evaluation"]


def test_k_is_chosen_on_detection_prompts_only(model, tmp_path: Path):
    facts = write_planted_facts(tmp_path / "facts")
    changes = {"k": "auto", "k_ladder": [0.002, 0.01, 0.1], "n_checked": 16, "n_spot": 1}
    job = read_job(
        {**QUICK, **changes, "facts": str(facts), "studies": ["relations.intra"], "n_matched": 1}
    )
    run = execute(job, tmp_path / "run", model=model, report=False)
    assert run.summary["effect.k"] == 6  # 0.01 of 640: as many as were planted
    rows = run.rows.read(study="relations.selection")
    assert set(rows["role"].to_pylist()) == {"detection"}


def with_few(path: Path, relation: str, n: int) -> Path:
    """Facts of which one relation keeps the first n subjects only."""
    lines = path.read_text(encoding="utf-8").splitlines()
    own = [line for line in lines if json.loads(line)["relation"] == relation]
    subjects = list(dict.fromkeys(json.loads(line)["subject"] for line in own))[n:]
    kept = [
        line for line in lines if line not in own or json.loads(line)["subject"] not in subjects
    ]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("n", "least", "reason"),
    [(4, 4, "2 detection facts, at least 4 are needed"), (4, 2, "too few to show 4")],
)
def test_a_small_relation_is_left_out_with_a_reason(
    model, tmp_path: Path, n: int, least: int, reason: str
):
    """Few-shot cannot ask it, which once ended the whole run after forms had been measured."""
    facts = with_few(
        write_planted_facts(tmp_path / "facts", ("father", "ceo", "river")), "river", n
    )
    changes = {"form": "few-shot", "detection_filter": "none", "min_detection": least}
    job = read_job({**QUICK, **changes, "facts": str(facts), "studies": ["relations.intra"]})
    run = execute(job, tmp_path / "run", model=model, report=False)
    (left_out,) = run.read_json("findings.json")["relations.intra"]["tables"]["skipped"]
    assert left_out["relation"] == "river"
    assert reason in left_out["reason"]
    asked = {prompt["relation"] for prompt in run.prompts().values()}
    assert asked == {"father", "ceo"}


def test_relations_with_too_few_facts_alone_are_told(model, tmp_path: Path):
    facts = write_planted_facts(tmp_path / "facts", ("father", "ceo", "river"))
    changes = {"n_detection": 3, "min_detection": 4}
    job = read_job({**QUICK, **changes, "facts": str(facts), "studies": ["relations.intra"]})
    with pytest.raises(StudyError, match=r"enough detection facts.*3 detection facts, at least 4"):
        execute(job, tmp_path / "run", model=model, report=False)


def test_forms_that_could_not_be_asked_say_why():
    tried = [Tried("chat", reason="the form chat needs the model's chat template")]
    error = unknown_relations("m", 0, {"ceo": "0 of 9"}, tried)
    assert "chat (not asked: the form chat needs the model's chat template)" in str(error)
