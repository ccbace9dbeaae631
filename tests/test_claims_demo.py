"""What the demo shows of answers in words on the embedded model, as claims with their intervals."""

from __future__ import annotations

from importlib.resources import as_file, files

import pytest

from broca.recipes import load_recipe
from broca.run import execute, read_job

OWN, OTHERS = 0.25, 0.03
"""What a query's own answer loses at least, and those of other fields at most."""


@pytest.mark.slow
def test_the_demo_loses_own_answers_and_spares_others(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with as_file(files("broca") / "cli" / "demo.toml") as recipe:
        values = load_recipe(recipe)
    settings = values["queries"]
    job = read_job({"studies": ["queries.effect"], "model": values["model"], **settings})
    run = execute(job, tmp_path_factory.mktemp("demo") / "run", report=False)
    (found,) = (
        record
        for record in run.read_json("findings.json")["queries.effect"]["tables"]["effects"]
        if (record["method"], record["action"], record["field"]) == ("na-ica", "suppress", "all")
    )
    assert found["related_low"] <= found["related"] <= -OWN
    assert found["related_high"] < -OTHERS  # surely more than others may lose
    assert found["unrelated_low"] > -OTHERS
    assert abs(found["matched"]) < OTHERS
    assert found["p_matched"] < 0.05
    assert found["n"] >= 60
