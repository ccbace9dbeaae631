"""Controls of the finder on the planted model: nothing is made up, and the finder is stable."""

from __future__ import annotations

import pytest

from broca.errors import RecipeError
from broca.studies.relations import RelationsConfig
from broca.studies.relations.controls import FinderControls
from broca.studies.relations.pooling import Pooling
from broca.studies.relations.stability import Stability
from relation_bench import done


def test_twenty_shuffles_of_the_labels_manufacture_nothing():
    found = done(FinderControls(), n_shuffled=20).found
    assert len(found.tables["shuffled"]) == 20 * 8
    assert abs(found.figures["controls.shuffled_beyond_matched"]) <= 0.05
    assert found.figures["controls.template_kept"] > 0.9


def test_halves_of_the_facts_find_the_same_neurons():
    found = done(Stability()).found
    assert found.figures["stability.shared"] > 0.9
    assert found.figures["stability.shared_other"] < 0.1
    assert found.figures["stability.drop_half"] > 0.9
    assert len(found.tables["relations"]) == 8


def test_poolings_are_compared():
    found = done(Pooling(), poolings=("mean", "last", "subject-last")).found
    by_pooling = {record["pooling"]: record for record in found.tables["poolings"]}
    assert list(by_pooling) == ["mean", "last", "subject-last"]
    assert by_pooling["mean"]["shared"] == 1
    assert by_pooling["last"]["own_drop"] > 0.9
    assert all(abs(record["matched_drop"]) < 0.15 for record in by_pooling.values())


@pytest.mark.parametrize(
    "setting",
    [
        {"ladder": (4,)},
        {"ladder": (0, 4)},
        {"n_other": 0},
        {"poolings": ("median",)},
        {"ablated_sites": ("gates",)},
    ],
)
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(RecipeError):
        RelationsConfig(**setting)
