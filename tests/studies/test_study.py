"""Conditions, plans and keys."""

from __future__ import annotations

import numpy as np
import pytest

from broca.errors import StudyError
from broca.neurons import NeuronSet
from broca.studies.conditions import key_of, make_intervention
from broca.studies.study import Condition, Plan, acc_drop
from planted import planted_world


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


def test_acc_drop():
    assert acc_drop(0.8, 0.2) == pytest.approx(0.75)
    assert acc_drop(0.5, 0.6) == pytest.approx(-0.2)
    assert np.isnan(acc_drop(0.0, 0.0))
