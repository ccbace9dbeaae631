"""Deletion from every layer equals a plain loop: one layer's ranking after the other."""

from __future__ import annotations

import numpy as np
import pytest

from broca.effects.aims import make_aims
from broca.interventions import Deactivate, intervene
from broca.locators import locate
from broca.neurons import NeuronIndex
from broca.studies.locators import FAMILY
from broca.studies.study import Results
from locator_bench import Bench, material


def test_what_is_lost_equals_a_plain_loop() -> None:
    share = 0.1
    judged, bench = material(locators=("exact", "ig", "random"), deleted=(share,)), Bench()
    study, model = FAMILY.studies["locators.deletion"], bench.model
    found = study.summarise(judged, Results({}, {}, study.plan(judged, bench).extra))
    index = NeuronIndex(model.identity, ("hidden",))

    def p_of(prompt, neurons) -> float:
        p = 1.0
        for aim in make_aims(model, [prompt], "answer")[0]:
            with intervene(model, Deactivate(neurons)):
                logits = model.logits(model.pad([list(aim.tokens)]))[0, -1].double()
            p *= float(logits.softmax(-1)[aim.target])
        return p

    nothing = index.select(np.array([], int))
    own, other = [], []
    for prompt in judged.prompts:
        values = locate(model, [prompt], "ig").of_prompt(0)
        width = values.shape[1]
        first = [
            layer * width + int(n)
            for layer, row in enumerate(values)
            for n in np.argsort(-row, kind="stable")[: round(share * width)]
        ]
        off = index.select(np.array(first))
        own.append(1 - p_of(prompt, off) / p_of(prompt, nothing))
        beside = judged.others[prompt.relation][:4]
        other.append(np.mean([1 - p_of(p, off) / p_of(p, nothing) for p in beside]))
    record = next(r for r in found.tables["locators"] if r["locator"] == "ig")
    assert record["own"] == pytest.approx(np.mean(own), abs=1e-3)
    assert record["other"] == pytest.approx(np.mean(other), abs=1e-3)
    assert record["share"] == share
