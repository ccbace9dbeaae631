"""The example scripts run and show what they say."""

from __future__ import annotations

import json
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


def test_play_notebook():
    """The cells of the notebook, in order, as one script; what they say of the page is true."""
    notebook = json.loads((EXAMPLES / "play.ipynb").read_text(encoding="utf-8"))
    names: dict = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"play.ipynb, cell {number}", "exec"), names)
    rows = names["rows"]
    assert rows["untouched"].correct
    assert not rows["edited"].correct
    assert rows["edited"].log_p < min(names["band"])
    assert list(names["again"]) == list(names["found"])
