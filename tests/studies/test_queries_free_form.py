"""Proxy against free form: overlaps by hand, and queries too few to compare."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.scores import Ranking
from broca.studies.queries import QueriesConfig
from broca.studies.queries.free_form import (
    ProxyAgainstFreeForm,
    _overlaps,
    _rankings,
    _total,
    shared,
)


def ranking(*neurons: int) -> Ranking:
    return Ranking(np.array(neurons, np.int64), np.ones(len(neurons)))


def part() -> Any:
    identity = SimpleNamespace(total=lambda site: 1000)
    questions = {query: SimpleNamespace(field="f") for query in "abc"}
    return SimpleNamespace(
        sets=SimpleNamespace(identity=identity, site="hidden"), questions=questions
    )


def test_overlaps_are_shares_of_the_smaller_set() -> None:
    proxy = {"a": ranking(1, 2, 3, 4), "b": ranking(5, 6), "c": ranking(7)}
    words = {"a": ranking(2, 3), "b": ranking(1, 6, 9), "c": ranking()}
    assert shared(proxy["a"], words["a"]) == 1.0
    records = {r["query"]: r for r in _overlaps(part(), "cluster", proxy, words)}
    assert set(records) == {"a", "b"}  # a query without neurons in words is left out
    assert (records["a"]["own"], records["a"]["others"]) == (1.0, pytest.approx(1 / 3))
    assert (records["b"]["own"], records["b"]["others"]) == (0.5, 0.0)
    assert records["a"]["chance"] == 4 / 1000


def test_what_both_forms_share_is_told_beyond_other_queries() -> None:
    material: Any = SimpleNamespace(config=QueriesConfig(n_resamples=100))
    records = [{"own": 0.5 + n / 100, "others": 0.1, "chance": 0.01} for n in range(12)]
    total = _total("cluster", records, material)
    assert total["gap"] == pytest.approx(total["own"] - 0.1)
    assert total["gap_low"] > 0.4
    assert total["p"] < 0.01
    none = _total("cluster", [{**r, "others": r["own"]} for r in records], material)
    assert (none["gap"], none["p"]) == (0.0, 1.0)


def test_three_queries_are_too_few() -> None:
    free: Any = dict.fromkeys("abc")
    assert _rankings(part(), free, SimpleNamespace()) == []  # type: ignore[arg-type]
    assert ProxyAgainstFreeForm.name == "queries.free-form"
