"""Damaged files of sets and effects are told."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from broca.effects import Effects
from broca.errors import BrocaError, EffectError, ScoreError
from broca.neurons import NeuronSet
from broca.scores import QuerySets
from test_fuzz import SET, mutated, parquet, short

ABOUT = {
    "format": "broca.query-sets",
    "version": 1,
    "model": SET["model"],
    "site": "hidden",
    "config": {"t": 0.2, "u": 0.3, "v": 20, "variant": "paper"},
    "seed": 0,
    "queries": ["q"],
    "methods": ["na-ica"],
    "common": {"neurons": [1], "share": [0.5]},
}
RANKED = [{"query": "q", "method": "na-ica", "layer": 0, "index": 1, "score": 0.5}]


def test_deep_metadata_is_told(tmp_path: Path) -> None:
    """Deeper than a JSON text can be read: once a traceback."""
    deep = b"[" * 100_000
    (tmp_path / "a.parquet").write_bytes(parquet(RANKED, {b"broca": deep}))
    with pytest.raises(ScoreError, match="no file of query sets"):
        QuerySets.load(tmp_path / "a.parquet")
    metadata = {"format": "broca.effects", "version": "1", "about": deep.decode()}
    save_file({"0.values": np.zeros(1)}, tmp_path / "e.safetensors", metadata)
    with pytest.raises(EffectError, match="malformed"):
        Effects.load(tmp_path / "e.safetensors")


@short(60)
@given(data=st.data())
def test_damaged_sets_are_told(tmp_path: Path, data: st.DataObject) -> None:
    about = data.draw(mutated(json.dumps(ABOUT).encode()))
    for name, content in (
        ("a.parquet", parquet(RANKED, {b"broca": about})),
        ("b.parquet", data.draw(mutated(parquet(RANKED, {b"broca": json.dumps(ABOUT).encode()})))),
    ):
        (tmp_path / name).write_bytes(content)
        with suppress(BrocaError):
            QuerySets.load(tmp_path / name)
    (tmp_path / "set.json").write_bytes(data.draw(mutated(json.dumps(SET).encode())))
    with suppress(BrocaError):
        NeuronSet.load(tmp_path / "set.json")
