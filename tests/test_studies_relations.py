"""Relation studies: parts in isolation, and figures against a slow plain version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broca.errors import RecipeError, StudyError
from broca.facts import Fact, Relation, Relations
from broca.interventions import Deactivate, intervene
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.run import execute, read_job
from broca.store import RunFolder
from broca.studies.relations.config import RelationsConfig, number_of_neurons
from broca.studies.relations.preparation import halves
from broca.studies.relations.said import AnswerKinds
from broca.studies.study import Condition, Plan, acc_drop, key_of, make_intervention
from planted import planted_world
from planted_files import QUICK, write_planted_facts


@pytest.fixture(scope="module")
def model():
    return planted_world().language_model()


@pytest.fixture(scope="module")
def run(model, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("effect")
    facts = write_planted_facts(folder / "facts", ("father", "mother", "ceo", "country"))
    job = read_job({**QUICK, "facts": str(facts), "control_template_set": "robustness"})
    return execute(job, folder / "run", model=model, report=False)


# ---- conditions


def test_labels_change_no_key(model):
    world = planted_world()
    neurons = NeuronSet.of(world.planted["river"], model.identity, name="river")
    settings = {"model": "m"}
    own = Condition("evaluation/river", "deactivate", "river", k=6)
    control = Condition("elsewhere", "deactivate", "other", control="uniform", seed=3, k=6)
    key = key_of(own, neurons, "prompts", settings)
    assert key == key_of(control, neurons, "prompts", settings)
    assert key == key_of(own, neurons.take(slice(None, None, -1)), "prompts", settings)
    assert key != key_of(own, neurons.top(5), "prompts", settings)
    assert key != key_of(own, neurons, "other prompts", settings)
    assert key != key_of(own, neurons, "prompts", {"model": "n"})
    scaled = Condition("evaluation/river", "scale", "river", factor=0.5)
    assert key != key_of(scaled, neurons, "prompts", settings)


def test_plan_keeps_each_condition_once(model):
    neurons = NeuronSet.of(planted_world().planted["river"], model.identity, name="river")
    plan = Plan({"a": (), "b": ()})
    first = plan.switch_off(neurons, ["a", "b"])
    assert plan.switch_off(neurons, ["b"]) == first[1:]
    assert len(plan.conditions) == 2
    with pytest.raises(ValueError, match="two different"):
        plan.switch_off(neurons.top(3), ["a"])
    with pytest.raises(ValueError, match="no group"):
        plan.ask(["c"])


def test_incomplete_condition_is_refused():
    with pytest.raises(StudyError):
        make_intervention(Condition("a", "scale", "x"), None)


# ---- small parts


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


def test_acc_drop():
    assert acc_drop(0.8, 0.2) == pytest.approx(0.75)
    assert acc_drop(0.5, 0.6) == pytest.approx(-0.2)
    assert np.isnan(acc_drop(0.0, 0.0))


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


# ---- figures against plain versions


def test_rows_equal_one_prompt_at_a_time(run: RunFolder, model):
    """Answers under every kind of set, asked again alone with hooks around the whole model."""
    prompts = run.prompts()
    rows = run.rows.read(study="relations.intra").to_pylist()
    own = [row for row in rows if row["set"] == "father" and row["role"] == "evaluation"]
    assert len(own) == 10
    neurons = NeuronSet.load(run.set_path("father"))
    for row in own:
        text = prompts[row["prompt"]]["text"]
        with intervene(model, Deactivate(neurons)):
            after = model.answer(text, 2)
        assert row["text"] == after
        assert row["text_before"] == model.answer(text, 2)


def test_matrix_equals_plain_counting(run: RunFolder):
    rows = run.rows.read().to_pylist()
    cells = run.read_json("findings.json")["relations.inter"]["tables"]["matrix"]
    assert len(cells) == 16
    for cell in cells:
        mine = [
            row
            for row in rows
            if row["set"] == cell["off"]
            and row["relation"] == cell["asked"]
            and row["role"] == "evaluation"
        ]
        before = sum(row["correct_before"] for row in mine) / len(mine)
        after = sum(row["correct"] for row in mine) / len(mine)
        assert cell["drop"] == pytest.approx((before - after) / before)
        assert cell["n"] == len(mine) == 10


def test_own_drops_against_controls(run: RunFolder):
    """The matched drop is the mean over random sets; medians are over relations."""
    drops = run.read_json("findings.json")["relations.intra"]["tables"]["drops"]
    rows = run.rows.read().to_pylist()
    for record in drops:
        matched = [
            row
            for row in rows
            if row["control"] == "matched"
            and row["relation"] == record["relation"]
            and row["role"] == "evaluation"
            and row["study"] == "relations.intra"
            and row["seed"] < 2  # the sets that all facts are asked under
        ]
        after = np.mean([row["correct"] for row in matched])
        assert record["matched_drop"] == pytest.approx(
            (record["before"] - after) / record["before"]
        )
        assert record["p_holm"] >= record["p"]
    medians = np.median([record["own_drop"] for record in drops])
    assert run.summary["effect.own_drop_median"] == pytest.approx(medians)


def test_other_drop_is_the_mean_over_other_relations(run: RunFolder):
    tables = run.read_json("findings.json")["relations.inter"]["tables"]
    for record in tables["sets"]:
        others = [
            cell["drop"]
            for cell in tables["matrix"]
            if cell["off"] == record["set"] != cell["asked"]
        ]
        assert record["other_drop"] == pytest.approx(np.mean(others))


def test_template_control(run: RunFolder):
    """The planted neurons read the relation word, whatever the wording."""
    records = run.read_json("findings.json")["relations.controls"]["tables"]["templates"]
    assert len(records) == 4
    for record in records:
        assert record["ap_other"] > 2 * record["chance"]


def test_no_evaluation_subject_is_a_detection_subject(run: RunFolder):
    prompts = run.prompts().values()
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
