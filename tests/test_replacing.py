"""What is put in neurons' place: values of the right neurons, keys that differ, effects that do."""

from __future__ import annotations

import numpy as np

from broca.studies.conditions import key_of, make_intervention
from broca.studies.replacing import Replaced
from broca.studies.study import Condition, Plan
from relation_bench import prepared


def test_means_are_those_of_the_recorded_responses() -> None:
    material = prepared().material
    neurons = material.sets["father"]
    word, values = Replaced("mean", material.responses, material.labels, 0).values(neurons)
    assert word == f"mean {material.responses.key[:8]}"
    for neuron, value in zip(neurons, values, strict=True):
        block = np.asarray(material.responses.block(neuron.site, neuron.layer))
        assert np.isclose(value, block[:, neuron.index].mean())
    size = material.responses.means(absolute=True)
    assert (size >= np.abs(material.responses.means()) - 1e-6).all()


def test_resampled_values_are_one_prompt_of_another_relation() -> None:
    material = prepared().material
    replaced = Replaced("resample", material.responses, material.labels, 0)
    for name in material.names:
        word, values = replaced.values(material.sets[name])
        row = list(material.responses.prompt_ids).index(word.split(" ", 2)[2])
        assert material.labels[row] != name
        neuron = next(iter(material.sets[name]))
        block = material.responses.block(neuron.site, neuron.layer)
        assert np.isclose(values[0], block[row, neuron.index])


def test_what_is_put_in_place_is_part_of_the_key_and_of_the_rows() -> None:
    bench, material = prepared().bench, prepared().material
    neurons, group = material.sets["father"], ["evaluation/father"]
    plan = Plan(material.groups)
    (zero,) = plan.switch_off(neurons, group)
    ways = {
        kind: plan.replace(neurons, group, material.replaced_by(kind))[0]
        for kind in ("mean", "resample")
    }
    keys = {key_of(condition, neurons, "p", {}) for condition in (zero, *ways.values())}
    assert len(keys) == 3
    condition = ways["mean"]
    values = plan.values["father", condition.replacement]
    assert make_intervention(condition, neurons, values).value == values  # type: ignore[union-attr]
    plan.ask(group)
    results = bench.measure("relations.toy", plan)
    off = {kind: results[c].accuracy for kind, c in {"zero": zero, **ways}.items()}
    before = results[Condition("evaluation/father")].accuracy
    assert off["zero"] < before
    assert off["mean"] < before
    log_p = [results[c].log_p.mean() for c in (zero, *ways.values())]
    assert len({round(float(value), 6) for value in log_p}) == 3
