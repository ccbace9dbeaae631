"""Agreement with exact effects: equal to plain interventions, and on the scale of verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from broca.effects.aims import make_aims
from broca.interventions import Deactivate, intervene
from broca.locators import locate
from broca.neurons import NeuronIndex
from broca.report.locators.agreement import agreement_answers
from broca.studies.locators import FAMILY
from broca.studies.study import Results
from locator_bench import Bench, material, stored


def test_figures_equal_plain_interventions_on_one_neuron_after_the_other() -> None:
    judged, bench = material(locators=("exact", "ig", "random"), top=5), Bench()
    study, model = FAMILY.studies["locators.agreement"], bench.model
    found = study.summarise(judged, Results({}, {}, study.plan(judged, bench).extra))
    index = NeuronIndex(model.identity, ("hidden",))
    plain = {"spearman": [], "recall": []}
    alone = [index.select(np.array([n])) for n in range(len(index))]
    for prompt in judged.prompts:
        loss = np.zeros(len(index))
        for aim in make_aims(model, [prompt], "answer")[0]:
            batch = model.pad([list(aim.tokens)] * len(alone))
            before = float(aim.read(model.logits(model.pad([list(aim.tokens)]))[0, -1]))
            with intervene(model, rows=[Deactivate(one, "last") for one in alone]):
                logits = model.logits(batch)[:, -1]
            loss += [before - float(aim.read(row)) for row in logits]
        values = locate(model, [prompt], "ig").of_prompt(0).ravel()
        plain["spearman"].append(spearmanr(values, loss).statistic)
        largest = [set(np.argsort(-v, kind="stable")[:5].tolist()) for v in (values, loss)]
        plain["recall"].append(len(largest[0] & largest[1]) / 5)
    records = {r["locator"]: r for r in found.tables["locators"]}
    assert records["ig"]["spearman"] == pytest.approx(np.mean(plain["spearman"]), abs=1e-2)
    assert records["ig"]["recall"] == pytest.approx(np.mean(plain["recall"]))
    assert records["exact"]["spearman"] == pytest.approx(1.0)
    assert np.isnan(records["ig"]["recall_low"])  # two prompts have no interval


def record(name: str, spearman: tuple[float, ...], recall: tuple[float, ...]) -> dict:
    ends = ("", "_low", "_high")
    return {
        "locator": name,
        "title": name.upper(),
        "n": 30,
        **{f"spearman{end}": value for end, value in zip(ends, spearman, strict=True)},
        **{f"recall{end}": value for end, value in zip(ends, recall, strict=True)},
    }


@pytest.mark.parametrize(
    ("spearman", "recall", "verdict"),
    [
        ((0.8, 0.7, 0.9), (0.7, 0.6, 0.8), "Yes"),
        ((0.8, 0.7, 0.9), (0.5, 0.4, 0.6), "In part"),
        ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), "No"),
        ((0.5, 0.4, 0.6), (0.2, 0.1, 0.3), "Not shown"),
    ],
)
def test_the_answer_is_on_the_scale_with_its_control(
    spearman: tuple[float, ...], recall: tuple[float, ...], verdict: str
) -> None:
    records = [
        record("ig", spearman, recall),
        record("exact", (1, 1, 1), (1, 1, 1)),
        record("random", (0, -0.1, 0.1), (0.01, 0, 0.02)),
        record("gradient", (0.1, 0, 0.2), (0.33, 0.3, 0.36)),
    ]
    (answer,) = agreement_answers(stored({}, locators=records, about=[{"top": 20}]), "")
    assert (answer.question, answer.answer) == ("Does IG tell what single neurons do?", verdict)
    assert "random numbers find 1% [0%, 2%]" in answer.detail
    assert "GRADIENT most, 33% [30%, 36%]" in answer.detail
