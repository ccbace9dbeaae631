"""Layers count every neuron once."""

from __future__ import annotations

import pytest

from broca.studies.relations.layers import Layers, third_of
from relation_bench import K, done


def test_layers_count_every_neuron_once():
    found = done(Layers()).found
    assert sum(place["n"] for place in found.tables["places"]) == 8 * K
    assert [third_of(layer, 6) for layer in range(6)] == [
        *("lower", "lower", "middle", "middle", "upper", "upper")
    ]
    assert sum(found.figures[f"layers.{t}"] for t in ("lower", "middle", "upper")) == (
        pytest.approx(1)
    )
    assert found.figures["layers.upper"] == 0  # planted in the layers 1 and 2 of 5
