"""Neurons, indices and sets: order, algebra, random controls, storing, refusing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broca.errors import NeuronError
from broca.neurons import (
    SITES,
    ModelIdentity,
    Neuron,
    NeuronIndex,
    NeuronSet,
    uniform_random,
)

IDENTITY = ModelIdentity("m", "f", 3, {"gate": 5, "up": 5, "hidden": 5, "down": 4, "o": 4})
neurons = st.lists(
    st.builds(
        Neuron,
        st.sampled_from(["gate", "up", "hidden", "down", "o"]),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    unique=True,
)


def make(listed, **about):
    return NeuronSet.of(listed, IDENTITY, **about)


def test_text_form():
    assert Neuron.parse("hidden:2:3") == Neuron("hidden", 2, 3)
    assert str(Neuron("hidden", 2, 3)) == "hidden:2:3"
    for wrong in ("hidden:2", "hidden:x:1", "mlp:1:1", "hidden:-1:2"):
        with pytest.raises(NeuronError):
            Neuron.parse(wrong)


def test_index_is_ordered_by_site_layer_index():
    index = NeuronIndex(IDENTITY, ("down", "gate"))
    every = [
        (SITES.index(site), layer, i)
        for site in ("gate", "down")
        for layer in range(3)
        for i in range(IDENTITY.widths[site])
    ]
    assert len(index) == len(every) == 27
    located = index.locate(np.arange(27))
    assert list(zip(*(a.tolist() for a in located), strict=True)) == every
    assert [where.start for _, _, where in index.blocks()] == [0, 5, 10, 15, 19, 23]
    assert index.block_slice("down", 1) == slice(19, 23)
    np.testing.assert_array_equal(index.flatten(index.select(np.arange(27))), np.arange(27))


@given(neurons, neurons)
def test_algebra_equals_sets(a, b):
    one, two = make(a), make(b)
    assert list(one & two) == [n for n in a if n in set(b)]
    assert list(one - two) == [n for n in a if n not in set(b)]
    assert list(one | two) == a + [n for n in b if n not in set(a)]
    overlap = one.overlap(two)
    assert overlap.count == len(set(a) & set(b))
    if a or b:
        assert overlap.jaccard == pytest.approx(overlap.count / len(set(a) | set(b)))


@given(neurons)
def test_digest_is_of_the_neurons_alone(listed):
    assert make(listed, name="x").digest == make(listed[::-1]).digest
    if listed:
        assert make(listed).digest != make(listed[1:]).digest


def test_units_and_counts():
    listed = make([Neuron("gate", 0, 1), Neuron("up", 0, 1), Neuron("down", 0, 1)])
    assert listed.n_units == 2
    assert listed.counts() == {("gate", 0): 1, ("up", 0): 1, ("down", 0): 1}


def test_parts():
    listed = make([Neuron("gate", 0, 1), Neuron("up", 2, 1), Neuron("gate", 1, 3)])
    assert list(listed.top(1)) == [Neuron("gate", 0, 1)]
    assert list(listed.ranks(1, 3)) == [Neuron("up", 2, 1), Neuron("gate", 1, 3)]
    assert list(listed.only(site="gate", layer=1)) == [Neuron("gate", 1, 3)]
    with pytest.raises(NeuronError, match="has 3 neurons"):
        listed.top(4)


def test_matched_sets_are_drawn_as_units():
    """A unit of which the set holds gate or up is left out whole; pairs are replaced by pairs."""
    wide = ModelIdentity("m", "f", 2, {"gate": 40, "up": 40, "down": 10})
    own = [Neuron("gate", 0, i) for i in range(8)] + [Neuron("up", 0, i) for i in range(4, 12)]
    listed = NeuronSet.of([*own, Neuron("down", 1, 3)], wide, name="r")
    for seed in range(5):
        drawn = listed.matched_random(seed)
        assert drawn.counts() == listed.counts()
        assert drawn.settings["units"]
        gate, up = (set(drawn.only(site=site).indices.tolist()) for site in ("gate", "up"))
        assert not (gate | up) & set(range(12))
        assert len(gate & up) == 4
        assert drawn.n_units == listed.n_units
    full = NeuronSet.of(
        [Neuron("gate", 0, i) for i in range(20)] + [Neuron("up", 0, i + 20) for i in range(20)],
        wide,
    )
    assert not full.matched_random(0).settings["units"]  # no unit is left: site by site


def test_sets_as_active_are_drawn_near_by():
    wide = ModelIdentity("m", "f", 2, {"gate": 400})
    index = NeuronIndex(wide, ("gate",))
    activity = np.random.default_rng(0).permutation(800) / 100.0
    own = np.argsort(-activity)[100:140]
    listed = index.select(np.sort(own), name="r")
    drawn = [listed.active_random(index, activity, seed) for seed in range(3)]
    for other in drawn:
        assert other.counts() == listed.counts()
        assert not len(other & listed)
        a, b = (np.sort(activity[index.flatten(s)]) for s in (listed, other))
        assert abs(a - b).max() < 0.6  # of 0 to 8
    assert len({other.digest for other in drawn}) == 3


def test_random_controls():
    listed = make([Neuron("gate", 0, 1), Neuron("gate", 0, 2), Neuron("down", 2, 0)], name="r")
    matched = listed.matched_random(3)
    assert matched.counts() == listed.counts()
    assert not len(matched & listed)
    assert matched.digest == listed.matched_random(3).digest != listed.matched_random(4).digest
    crowded = make([Neuron("gate", 0, i) for i in range(4)])
    with pytest.raises(NeuronError, match="smaller k"):
        crowded.matched_random(0)
    index = NeuronIndex(IDENTITY, ("gate", "up"))
    assert len(uniform_random(index, 30, 0)) == 30
    with pytest.raises(NeuronError, match="Cannot draw 31"):
        uniform_random(index, 31, 0)


@given(neurons)
def test_round_trip(tmp_path_factory, listed):
    path = tmp_path_factory.mktemp("sets") / "a.json"
    original = make(listed, name="r", method="m", settings={"k": 3}, data_hash="d")
    loaded = NeuronSet.load(original.save(path))
    assert list(loaded) == listed
    assert (loaded.name, loaded.method, loaded.settings, loaded.data_hash) == (
        "r",
        "m",
        {"k": 3},
        "d",
    )
    assert loaded.identity == IDENTITY
    np.testing.assert_array_equal(loaded.scores, original.scores)


def test_refusals(tmp_path):
    with pytest.raises(NeuronError, match="outside the model"):
        make([Neuron("gate", 3, 0)])
    with pytest.raises(NeuronError, match="twice"):
        make([Neuron("gate", 0, 0)] * 2)
    with pytest.raises(NeuronError, match="no site 'q'"):
        make([Neuron("q", 0, 0)])
    path = tmp_path / "s.json"
    make([Neuron("gate", 0, 0)]).save(path)
    content = json.loads(path.read_text())
    for change, message in (
        ({"format": "other"}, "not a neuron set"),
        ({"version": 99}, "version 99"),
        ({"layer": None}, "malformed"),
        ({"layer": [7]}, "outside the model"),
        ({"version": True}, "version True"),
        *(({"index": [bad]}, r"malformed: index\.0") for bad in (1.5, 1.0, "1", True, None, -1)),
        *(({"layer": [bad]}, r"malformed: layer\.0") for bad in (0.5, "0", False, 2**40)),
        ({"site": ["gates"]}, r"malformed: site\.0"),
        ({"site": "gate"}, "malformed: site"),
        ({"score": ["0.5"]}, r"malformed: score\.0"),
        ({"score": [float("nan")]}, r"malformed: score\.0"),
        ({"name": 3}, "malformed: name"),
        ({"model": {**content["model"], "n_layers": "3"}}, r"model\.n_layers"),
        ({"model": {**content["model"], "widths": {"gate": 4.0}}}, r"model\.widths"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(NeuronError, match=message):
            NeuronSet.load(path)
    path.write_text("{")
    with pytest.raises(NeuronError, match="malformed JSON"):
        NeuronSet.load(path)
    with pytest.raises(NeuronError, match="no such file"):
        NeuronSet.load(tmp_path / "none.json")


@pytest.mark.parametrize("index", [1.5, 1.0, "1", True, None, -1, 2**31])
def test_places_are_whole_numbers(index):
    with pytest.raises(NeuronError, match="no layer and no index"):
        make([Neuron("gate", 0, index)])


@pytest.mark.parametrize("text", ["gate:0:1.5", "gate:0:True", "gate:0:-1", "gate:0:²", "gate:0"])
def test_typed_places_are_whole_numbers(text):
    with pytest.raises(NeuronError, match="is not a neuron"):
        Neuron.parse(text)


def test_arrays_of_places_are_whole_numbers():
    whole = np.array([0], dtype=np.int32)
    with pytest.raises(NeuronError, match="no whole number"):
        NeuronSet(IDENTITY, whole, whole, np.array([1.5]), np.array([np.nan]))
