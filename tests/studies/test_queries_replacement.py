"""Replacement of query neurons: values by hand, controls beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.choices import find_letters
from broca.errors import RecipeError
from broca.interventions import Fix, intervene
from broca.studies.queries import QueriesConfig
from planted_run import PlantedRun


def test_the_mean_is_that_of_all_prompts_at_the_last_position(planted_run: PlantedRun) -> None:
    run = planted_run
    letters = list(find_letters(run.model, run.prompts))
    values: dict[int, list[torch.Tensor]] = {layer: [] for layer in range(run.model.n_layers)}
    for one in letters:
        for layer, kept in values.items():
            with run.model.touch("hidden", layer, lambda t, kept=kept: kept.append(t[0, -1])):
                run.model.logits(run.model.pad([one.tokens]))
    means = torch.stack([torch.stack(kept).mean(0) for kept in values.values()])
    changes: dict[str, list[float]] = {}
    for one in letters:
        neurons = run.sets.neurons(one.prompt.fact)
        if len(neurons):
            fixed = tuple(float(means[n.layer, n.index]) for n in neurons)
            with intervene(run.model, Fix(neurons, fixed, "last")):
                p = float(run.model.probabilities([one.prompt.text])[0][one.target])
            changes.setdefault(one.prompt.fact, []).append(p / one.p - 1)
    record = next(r for r in run.table("replacement", "ways") if r["way"] == "mean")
    mean = np.mean([np.mean(listed) for listed in changes.values()])
    assert record["related"] == pytest.approx(mean, abs=5e-4)


def test_zero_is_the_effect_of_the_paper_and_every_way_has_both_controls(
    planted_run: PlantedRun,
) -> None:
    ways = {r["way"]: r for r in planted_run.table("replacement", "ways")}
    assert list(ways) == ["zero", "mean", "resample"]
    here = planted_run.table("positions", "ways")[0]
    for name in ("related", "unrelated", "matched"):
        assert ways["zero"][name] == pytest.approx(here[name])
    for record in ways.values():
        assert {"matched_verdict", "active_verdict", "beyond_active", "p_active"} <= set(record)
    assert ways["zero"]["active_verdict"] == "yes"
    rows = planted_run.folder.rows.read(columns=["replacement"]).column(0).to_pylist()
    assert {row.split(" ")[0] for row in rows} == {"", "mean", "resample"}
    page = planted_run.page
    assert "Do query neurons matter, whatever is put in their place?" in page


def test_neurons_are_either_scaled_or_replaced() -> None:
    with pytest.raises(RecipeError, match="either scaled or replaced"):
        QueriesConfig(replacement="mean", suppress=0.5)
