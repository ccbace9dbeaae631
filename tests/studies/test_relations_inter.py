"""The matrix of relations against plain counting."""

from __future__ import annotations

import numpy as np
import pytest

from broca.store import RunFolder


def test_matrix_equals_plain_counting(relation_run: RunFolder):
    rows = relation_run.rows.read().to_pylist()
    cells = relation_run.read_json("findings.json")["relations.inter"]["tables"]["matrix"]
    assert len(cells) == 16
    for cell in cells:
        mine = [
            row
            for row in rows
            if row["set"] == cell["off"]
            and row["relation"] == cell["asked"]
            and row["role"] == "evaluation"
        ]
        before = sum(row["correct_before"] for row in mine) / len(mine)
        after = sum(row["correct"] for row in mine) / len(mine)
        assert cell["drop"] == pytest.approx((before - after) / before)
        assert cell["n"] == len(mine) == 10


def test_other_drop_is_the_mean_over_other_relations(relation_run: RunFolder):
    tables = relation_run.read_json("findings.json")["relations.inter"]["tables"]
    for record in tables["sets"]:
        others = [
            cell["drop"]
            for cell in tables["matrix"]
            if cell["off"] == record["set"] != cell["asked"]
        ]
        assert record["other_drop"] == pytest.approx(np.mean(others))
