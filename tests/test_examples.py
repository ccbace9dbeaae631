"""The example scripts run and show what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_relation_neurons():
    accuracy = runpy.run_path(str(EXAMPLES / "relation_neurons.py"))["main"]()
    for name in ("person_father", "person_sport_position", "star_constellation"):
        assert accuracy["untouched"][name] > 0.5
        assert accuracy[f"{name} off"][name] <= accuracy[f"{name} matched"][name]


def test_query_neurons():
    attributions = runpy.run_path(str(EXAMPLES / "query_neurons.py"))["main"]()
    assert attributions.converged_share > 0.5
