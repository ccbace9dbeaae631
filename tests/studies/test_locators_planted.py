"""Planted neurons: recall is a plain count, and the exact effect finds what speaks loudly."""

from __future__ import annotations

import numpy as np
import pytest

from broca.edits import edited
from broca.effects.aims import make_aims
from broca.locators import locate
from broca.studies.locators import FAMILY
from broca.studies.locators.truths import plant, with_another_answer
from broca.studies.study import Results
from locator_bench import Bench, material


def test_recall_is_a_plain_count_of_planted_neurons() -> None:
    locators = ("exact", "gradient", "random")
    judged = material(locators=locators, reference="exact", n_planted=2, planted=5)
    bench = Bench()
    study, model = FAMILY.studies["locators.planted"], bench.model
    found = study.summarise(judged, Results({}, {}, study.plan(judged, bench).extra))
    counted = []
    for prompt in judged.prompts:
        asked = with_another_answer(prompt, judged)
        assert asked.answers != prompt.answers
        vectors = plant(model, make_aims(model, [asked], "answer")[0][0], 5, judged.config.seed)
        truth = {(neuron.layer, neuron.index) for neuron in vectors.neurons}
        with edited(model, vectors):
            values = locate(model, [asked], "gradient").of_prompt(0)
        first = np.argsort(-values.ravel(), kind="stable")[:5]
        places = {divmod(int(flat), values.shape[1]) for flat in first}
        counted.append(len(places & truth) / 5)
    records = {r["locator"]: r for r in found.tables["locators"]}
    assert records["gradient"]["recall"] == pytest.approx(np.mean(counted))
    assert records["exact"]["recall"] > records["random"]["recall"]
