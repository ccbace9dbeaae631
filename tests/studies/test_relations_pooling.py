"""Poolings are compared."""

from __future__ import annotations

import pytest

from broca.errors import RecipeError
from broca.studies.relations import RelationsConfig
from broca.studies.relations.pooling import Pooling
from relation_bench import done


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
