"""Joint effects: P left with the first neurons of a ranking off together equals interventions."""

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


def test_p_left_equals_interventions_at_the_last_position() -> None:
    sizes = (1, 5, 20)
    judged, bench = material(locators=("exact", "ig", "random"), sizes=sizes), Bench()
    study, model = FAMILY.studies["locators.joint"], bench.model
    found = study.summarise(judged, Results({}, {}, study.plan(judged, bench).extra))
    index = NeuronIndex(model.identity, ("hidden",))
    left = np.zeros((len(judged.prompts), len(sizes)))
    for row, prompt in enumerate(judged.prompts):
        values = locate(model, [prompt], "ig").of_prompt(0).ravel()
        order = np.argsort(-values, kind="stable")
        before = 1.0
        for column, size in enumerate((0, *sizes)):
            p = 1.0
            for aim in make_aims(model, [prompt], "answer")[0]:
                with intervene(model, Deactivate(index.select(order[:size]), "last")):
                    logits = model.logits(model.pad([list(aim.tokens)]))[0, -1].double()
                p *= float(logits.softmax(-1)[aim.target])
            if column:
                left[row, column - 1] = p / before
            else:
                before = p
    curve = {
        r["k"]: r["value"]
        for r in found.tables["curves"]
        if (r["locator"], r["prompt"]) == ("ig", "own")
    }
    assert list(curve) == list(sizes)
    assert list(curve.values()) == pytest.approx(left.mean(0).tolist(), abs=1e-3)
