"""Settings: every value is held to its type and range, from a recipe, a typed text or Python."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broca.edits import FactEditConfig
from broca.errors import BrocaError, RecipeError
from broca.recipes import apply_overrides, build_config
from broca.run.job import ModelSettings
from broca.scores import QueryScoreConfig
from broca.studies.queries.config import QueriesConfig
from broca.studies.relations import RelationsConfig

CONFIGS = (RelationsConfig, QueriesConfig, QueryScoreConfig, FactEditConfig, ModelSettings)
FIELDS = [(config, field.name) for config in CONFIGS for field in dataclasses.fields(config)]
WHOLE = [(c, n) for c, n in FIELDS if type(c.__dataclass_fields__[n].default) is int]
NUMBERS = [(c, n) for c, n in FIELDS if type(c.__dataclass_fields__[n].default) is float]


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (RelationsConfig, "alpha", 2),
        (RelationsConfig, "alpha", 0),
        (RelationsConfig, "seed", -1),
        (RelationsConfig, "negatives", math.nan),
        (RelationsConfig, "negatives", math.inf),
        (RelationsConfig, "k", 1.5),
        (RelationsConfig, "k", 0),
        (RelationsConfig, "k", True),
        (RelationsConfig, "k_ladder", [0.1, 1.5]),
        (RelationsConfig, "k_ladder", []),
        (RelationsConfig, "ladder", [1]),
        (RelationsConfig, "ladder", [10, 2.5]),
        (RelationsConfig, "batch_size", 0),
        (RelationsConfig, "sites", ["gates"]),
        (RelationsConfig, "sites", []),
        (RelationsConfig, "pooling", "max"),
        (RelationsConfig, "poolings", ["max"]),
        (RelationsConfig, "n_permutations", 10**12),
        (QueriesConfig, "t", 1.0),
        (QueriesConfig, "u", 0.0),
        (QueriesConfig, "boost", 1.0),
        (QueriesConfig, "suppress", math.nan),
        (QueriesConfig, "batch_size", 1),
        (QueriesConfig, "per_field", 0),
        (FactEditConfig, "target", 1.0),
        (FactEditConfig, "locality", -1.0),
        (ModelSettings, "trust_remote_code", 1),
    ],
)
def test_what_is_out_of_range_is_refused_however_it_comes(
    config: Any, name: str, value: Any
) -> None:
    with pytest.raises(BrocaError, match=name):
        config(**{name: value})
    with pytest.raises(RecipeError, match=name):
        build_config(config, {name: value})
    if not isinstance(value, list):
        with pytest.raises(RecipeError, match=name):
            build_config(config, apply_overrides({}, [f"{name}={value}"]))


@pytest.mark.parametrize(("config", "name"), WHOLE)
@pytest.mark.parametrize("value", [True, 1.5, 2.0, "2", None, math.nan, [2], -1])
def test_whole_numbers_are_whole_numbers(config: Any, name: str, value: Any) -> None:
    with pytest.raises(BrocaError, match=f"'{name}'"):
        config(**{name: value})
    with pytest.raises(RecipeError, match=f"'{name}'"):
        build_config(config, {name: value})


@pytest.mark.parametrize(("config", "name"), NUMBERS)
@pytest.mark.parametrize("value", [True, "0.5", None, math.nan, math.inf, -math.inf, [0.5]])
def test_numbers_are_finite_numbers(config: Any, name: str, value: Any) -> None:
    with pytest.raises(BrocaError, match=f"'{name}'"):
        config(**{name: value})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(FIELDS), value=anything)
def test_a_value_is_refused_or_kept_as_it_is(field: tuple[Any, str], value: Any) -> None:
    config, name = field
    try:
        kept = getattr(config(**{name: value}), name)
    except BrocaError:
        return
    assert kept == (tuple(value) if isinstance(value, list) else value)
    assert type(kept) in (type(value), tuple, float)


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(FIELDS), text=st.text(max_size=20))
def test_any_typed_text_is_taken_or_refused(field: tuple[Any, str], text: str) -> None:
    config, name = field
    try:
        build_config(config, apply_overrides({}, [f"{name}={text}"]))
    except BrocaError:
        return
