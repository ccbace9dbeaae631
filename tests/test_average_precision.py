"""Average precision equals scikit-learn's, whatever the values, and bad responses are refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from broca.errors import ScoreError
from broca.scores import (
    average_precision,
    average_precision_many,
    average_precision_tensor,
    kernels,
)


def plain(values, positive, included=None):
    """scikit-learn, one neuron and one labelling at a time."""
    included = np.ones_like(positive) if included is None else included
    return np.array([average_precision_score(positive[included], row[included]) for row in values])


def labels(rng, n, r=None):
    """Random positives and members with at least one positive member each."""
    shape = (n,) if r is None else (r, n)
    positive, included = rng.random(shape) < 0.3, rng.random(shape) < 0.7
    positive[..., 0] = included[..., 0] = True
    return positive, included


def check_all(values, positive, included):
    expected = plain(values, positive, included)
    for axis, table in ((0, values), (1, np.ascontiguousarray(values.T))):
        got = average_precision(table, positive, included, neuron_axis=axis)
        many = average_precision_many(table, positive[None], included[None], neuron_axis=axis)
        tensor = average_precision_tensor(
            torch.from_numpy(table.copy()), positive, included, neuron_axis=axis
        )
        for other in (got, many[:, 0], tensor.numpy()):
            assert other.dtype == np.float64
            np.testing.assert_allclose(other, expected, rtol=0, atol=1e-12)


finite = {"allow_nan": False, "allow_infinity": False}
tables32 = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 24)),
    elements=st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(width=32, **finite)),
)
tables64 = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 24)),
    elements=st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0]), st.floats(**finite)),
)


@settings(deadline=None, max_examples=80)
@given(st.one_of(tables32, tables64), st.integers(0, 2**31))
def test_equals_scikit_learn(values, seed):
    positive, included = labels(np.random.default_rng(seed), values.shape[1])
    check_all(values, positive, included)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("step", [0.0, 0.5, 2.0])
def test_heavy_ties(kind, step):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20, 300)).astype(kind)
    if step:
        values = np.round(values / step).astype(kind) * kind(step)
    check_all(values, *labels(rng, 300))


def test_one_positive_all_equal_and_no_negative():
    values = np.array([[1, 1, 1, 1], [4, 3, 2, 1], [1, 2, 3, 4]], np.float32)
    one = np.array([True, False, False, False])
    np.testing.assert_allclose(average_precision(values, one), [0.25, 1, 0.25])
    check_all(values, one, np.ones(4, bool))
    np.testing.assert_array_equal(average_precision(values, np.ones(4, bool)), 1.0)
    check_all(values, np.ones(4, bool), np.ones(4, bool))


def test_negative_zero_is_zero():
    values = np.array([[0.0, -0.0, -0.0, 0.0]], np.float32)
    positive = np.array([True, False, True, False])
    assert average_precision(values, positive)[0] == 0.5
    assert average_precision_many(values, positive[None])[0, 0] == 0.5
    assert average_precision_tensor(torch.from_numpy(values), positive)[0] == 0.5


def test_denormal_and_extreme_values_keep_their_order():
    tiny = np.float32(1e-45)
    top = np.finfo(np.float32).max
    values = np.array([[tiny, 0, -tiny, top, -top, 1]], np.float32)
    for hit in range(6):
        positive = np.arange(6) == hit
        check_all(values, positive, np.ones(6, bool))


@pytest.mark.parametrize("r", [1, 3, 17, 40])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_many_labellings_equal_one_at_a_time(r, kind):
    rng = np.random.default_rng(r)
    values = np.round(rng.normal(size=(4, 60)), 1).astype(kind)
    positive, included = labels(rng, 60, r)
    included[:, -7:] = False  # prompts that no labelling uses
    expected = np.stack(
        [plain(values, p, m) for p, m in zip(positive, included, strict=True)], axis=1
    )
    np.testing.assert_allclose(
        average_precision_many(values, positive, included), expected, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        average_precision_tensor(torch.from_numpy(values), positive, included).numpy(),
        expected,
        rtol=0,
        atol=1e-12,
    )


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    values = rng.normal(size=(50, 40)).astype(np.float32)
    positive, included = labels(rng, 40, 3)
    whole = average_precision_many(values, positive, included)
    # The package exports a function of the module's name, so the module is looked up by name.
    module = sys.modules["broca.scores.average_precision"]
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1000)
    monkeypatch.setattr(module, "_TENSOR_CHUNK", 120)
    np.testing.assert_array_equal(average_precision_many(values, positive, included), whole)
    np.testing.assert_array_equal(average_precision(values, positive[0], included[0]), whole[:, 0])
    np.testing.assert_allclose(
        average_precision_tensor(torch.from_numpy(values), positive, included).numpy(),
        whole,
        atol=1e-12,
    )


def test_responses_are_left_as_they_were():
    values = np.random.default_rng(3).normal(size=(4, 30)).astype(np.float32)
    values.setflags(write=False)
    before = values.copy()
    positive = np.arange(30) < 5
    average_precision(values, positive)
    average_precision_many(values, positive[None])
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("kind", [np.float16, np.int32, np.dtype(">f4")])
def test_other_number_types_are_ranked_too(kind):
    values = np.random.default_rng(4).integers(-5, 5, (3, 30)).astype(kind)
    positive = np.arange(30) % 3 == 0
    expected = plain(values.astype(float), positive)
    np.testing.assert_allclose(average_precision(values, positive), expected, atol=1e-12)
    many = average_precision_many(values, positive[None])
    np.testing.assert_allclose(many[:, 0], expected, atol=1e-12)


def test_half_precision_tensors():
    values = torch.randn(3, 30, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    positive = np.arange(30) % 3 == 0
    np.testing.assert_allclose(
        average_precision_tensor(values, positive).numpy(),
        plain(values.float().numpy(), positive),
        atol=1e-12,
    )


def test_no_neurons():
    positive = np.array([[True, False]])
    empty = np.empty((0, 2), np.float32)
    assert average_precision(empty, positive[0]).shape == (0,)
    assert average_precision_many(empty, positive).shape == (0, 1)
    assert average_precision_tensor(torch.from_numpy(empty), positive).shape == (0, 1)
    assert average_precision_many(np.ones((3, 2), np.float32), np.empty((0, 2))).shape == (3, 0)


ROUTES = {
    "one": lambda v, p, m=None, **k: average_precision(v, p, m, **k),
    "many": lambda v, p, m=None, **k: average_precision_many(
        v, np.asarray(p)[None], None if m is None else np.asarray(m)[None], **k
    ),
    "tensor": lambda v, p, m=None, **k: average_precision_tensor(torch.from_numpy(v), p, m, **k),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_and_infinity_are_refused_where_they_count(route, bad, kind):
    values = np.arange(12, dtype=kind).reshape(2, 6)
    values[1, 3] = bad
    positive = [True, True, False, False, False, False]
    with pytest.raises(ScoreError, match="NaN or infinity"):
        ROUTES[route](values, positive)
    ROUTES[route](values, positive, [True, True, True, False, True, True])


@pytest.mark.parametrize("route", ROUTES)
def test_bad_labels_and_shapes_are_refused(route):
    call, values = ROUTES[route], np.ones((2, 4), np.float32)
    with pytest.raises(ScoreError, match="without a positive"):
        call(values, [False] * 4)
    with pytest.raises(ScoreError, match="without a positive"):
        call(values, [True, False, False, False], [False, True, True, True])
    with pytest.raises(ScoreError, match="do not fit 4 prompts"):
        call(values, [True] * 3)
    with pytest.raises(ScoreError, match="neuron_axis"):
        call(values[0], [True] * 4)
    with pytest.raises(ScoreError, match="neuron_axis"):
        call(values, [True] * 4, neuron_axis=2)


def test_a_labelling_needs_its_own_axis():
    with pytest.raises(ScoreError, match=r"\[labelling, prompt\]"):
        average_precision_many(np.ones((2, 4), np.float32), np.ones(4, bool))
    with pytest.raises(ScoreError, match="labelling 1"):
        average_precision_many(np.ones((2, 2), np.float32), [[True, False], [False, False]])
    with pytest.raises(ScoreError, match=r"\[prompt\]"):
        average_precision(np.ones((2, 4), np.float32), np.ones((1, 4), bool))


def test_compiles_where_no_cache_can_be_written(monkeypatch):
    real = kernels.numba.njit

    def no_folder(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(kernels.numba, "njit", no_folder)
    merge = kernels.compiled(kernels.merge_positives.py_func)
    out = np.empty(1)
    merge(np.array([[1.0, 2, 3]]), np.array([[3.0]]), out)
    assert out[0] == 1.0


def test_the_compiled_loops_equal_python():
    rng = np.random.default_rng(5)
    values = np.round(rng.normal(size=(3, 20)), 1).astype(np.float32)
    keys, again = np.empty((3, 20), np.uint64), np.empty((3, 20), np.uint64)
    assert kernels.descending_keys(values.view(np.uint32), keys)
    assert kernels.descending_keys.py_func(values.view(np.uint32), again)
    np.testing.assert_array_equal(keys, again)
    keys.sort(axis=1)
    order = (keys & np.uint64(0xFFFFFFFF)).astype(int)
    assert (np.diff(np.take_along_axis(values, order, 1), axis=1) <= 0).all()
