"""Own neurons off: rows one prompt at a time, drops against controls."""

from __future__ import annotations

import numpy as np
import pytest

from broca.interventions import Deactivate, intervene
from broca.neurons import NeuronSet
from broca.store import RunFolder


def test_rows_equal_one_prompt_at_a_time(relation_run: RunFolder, model):
    """Answers under every kind of set, asked again alone with hooks around the whole model."""
    prompts = relation_run.prompts()
    rows = relation_run.rows.read(study="relations.intra").to_pylist()
    own = [row for row in rows if row["set"] == "father" and row["role"] == "evaluation"]
    assert len(own) == 10
    neurons = NeuronSet.load(relation_run.set_path("father"))
    for row in own:
        text = prompts[row["prompt"]]["text"]
        with intervene(model, Deactivate(neurons)):
            after = model.answer(text, 2)
        assert row["text"] == after
        assert row["text_before"] == model.answer(text, 2)


def test_own_drops_against_controls(relation_run: RunFolder):
    """The matched drop is the mean over random sets; medians are over relations."""
    drops = relation_run.read_json("findings.json")["relations.intra"]["tables"]["drops"]
    rows = relation_run.rows.read().to_pylist()
    for record in drops:
        matched = [
            row
            for row in rows
            if row["control"] == "matched"
            and row["relation"] == record["relation"]
            and row["role"] == "evaluation"
            and row["study"] == "relations.intra"
            and row["seed"] < 2  # the sets that all facts are asked under
        ]
        after = np.mean([row["correct"] for row in matched])
        assert record["matched_drop"] == pytest.approx(
            (record["before"] - after) / record["before"]
        )
        assert record["p_holm"] >= record["p"]
    medians = np.median([record["own_drop"] for record in drops])
    assert relation_run.summary["effect.own_drop_median"] == pytest.approx(medians)
