"""Locator studies on a tiny model: injected and planted truths, figures, tables, the page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from broca.answers import answer_tokens
from broca.edits import edited
from broca.effects.aims import make_aims
from broca.errors import RecipeError
from broca.locators import LOCATORS
from broca.prompts import Prompt
from broca.recipes import load_recipe
from broca.run import read_job
from broca.studies import load_family
from broca.studies.locators import FAMILY, LocatorsConfig, Material
from broca.studies.locators.invented import invented_facts, material_of
from broca.studies.locators.judging import agreement
from broca.studies.locators.material import known_first, recalls
from broca.studies.locators.truths import plant
from broca.studies.study import Results
from locator_bench import Bench, prompts
from tiny import TEXTS, tiny_model

ROOT = Path(__file__).parent.parent


def test_all_studies_and_what_they_share():
    asked = prompts()
    config = LocatorsConfig(
        locators=("exact", "slimming", "ig", "gradient", "expertise", "random"),
        n_prompts=2,
        n_injected=2,
        n_planted=2,
        n_others=2,
        n_group=2,
        top=5,
        sizes=(1, 5, 20),
        planted=4,
        mask_steps=4,
        n_resamples=200,
    )
    by = {name: [p for p in asked if p.relation == name] for name in "rs"}
    material = Material(config, asked[:2], by, {"r": by["s"], "s": by["r"]}, 0)
    bench = Bench()
    found = {}
    for name, study in FAMILY.studies.items():
        # a random model learns no fact in so few steps, and knows none of a relation
        if name in ("locators.injection", "locators.relations"):
            continue
        plan = study.plan(material, bench)
        found[name] = study.summarise(material, Results({}, {}, plan.extra))
    assert bench.computed == 4  # agreement, joint and deletion read the same units
    for findings in found.values():
        assert findings.words
        assert all(isinstance(v, float | int) for v in findings.figures.values())
        records = findings.tables["locators"]
        assert {r["locator"] for r in records} == set(config.locators)
    exact = {r["locator"]: r for r in found["locators.agreement"].tables["locators"]}["exact"]
    assert exact["spearman"] == pytest.approx(1.0)
    assert exact["recall"] == 1.0
    reference = {r["locator"]: r for r in found["locators.joint"].tables["locators"]}["ig"]
    assert reference["area_own_gap"] == 0.0  # against itself


def test_planted_neurons_speak_for_the_answer():
    model = tiny_model()
    tokens = model.encode([TEXTS[0]])[0]
    aim = make_aims(model, [Prompt("p", TEXTS[0], (" dog",))], "answer")[0][0]
    before = float(aim.read(model.logits(model.pad([tokens]))[0, -1]))
    vectors = plant(model, aim, 5, 0)
    with edited(model, vectors):
        after = float(aim.read(model.logits(model.pad([tokens]))[0, -1]))
    assert len(vectors.neurons) == 5
    assert after > before + 1


def test_recall_by_hand():
    values = np.array([[4.0, 3.0, 2.0, 1.0], [8.0, 7.0, 6.0, 5.0]])
    found = recalls(values, np.array([0, 4, 5]), [0.25, 0.5])
    assert found["global"] == [2 / 3, 2 / 3]  # first two of all: 4 and 5
    assert found["layer"] == [2 / 3, 1.0]  # first of each layer: 0 and 4


def test_agreement_leaves_out_what_was_not_measured():
    loss = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, 0.5]])
    values = np.array([[1.0, 2.0, 100.0], [3.0, 100.0, 0.5]])
    found = agreement(values, loss, top=1)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["recall"] == 0.0
    assert found["spearman_by_layer"][0] == pytest.approx(1.0)


def test_known_prompts_come_first(monkeypatch):
    model = tiny_model()
    asked = prompts()
    right = {asked[3].text: answer_tokens(model, asked[3].text, asked[3].answers[0], " ")[0]}

    def probabilities(texts):
        rows = torch.full((len(texts), 320), 1e-3)
        for row, text in enumerate(texts):
            rows[row, right.get(text, 0)] = 0.9
        return rows

    monkeypatch.setattr(model, "probabilities", probabilities)
    order = known_first(Bench(model), asked, 6)
    assert order[0] == (3, True)
    assert sorted(number for number, _ in order) == list(range(6))


def test_invented_facts_are_drawn_by_number():
    some, more = invented_facts(4), invented_facts(8)
    assert some == more[:4]
    assert invented_facts(2, start=2) == some[2:]
    atlas = invented_facts(3, relations=material_of("atlas"))
    assert all(p.text.endswith("Answer:") for p in atlas)
    assert len({p.subject for p in more}) == 8


@pytest.mark.parametrize("name", ["bench", "bench-quick"])
def test_recipes(name):
    job = read_job(load_recipe(ROOT / "recipes" / "locators" / f"{name}.toml"))
    assert list(job.studies) == list(load_family("locators").studies)


@pytest.mark.parametrize(
    "changes",
    [
        {"locators": ("magic", "ig")},
        {"reference": "exact", "locators": ("ig",)},
        {"n_prompts": 1},
        {"mask_share": 2.0},
    ],
)
def test_settings_are_refused_in_words(changes):
    with pytest.raises(RecipeError):
        LocatorsConfig(**changes)


def test_default_locators_are_known():
    assert set(LocatorsConfig().locators) <= set(LOCATORS)
    assert math.isclose(LocatorsConfig().injected_share, 0.01)
