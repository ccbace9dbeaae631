"""The matrix of relations against plain counting."""

from __future__ import annotations

import numpy as np
import pytest

from broca.report.relations.inter import alone_verdict
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


def test_sets_that_are_mostly_shared_serve_no_relation_alone() -> None:
    own, spared, hurt = [0.5, 0.4, 0.6], [0.04, 0.03, 0.045], [0.2, 0.1, 0.3]
    assert alone_verdict(own, spared, 12, shared=False) == "yes"
    assert alone_verdict(own, spared, 12, shared=True) == "in part"
    assert alone_verdict(own, hurt, 12, shared=False) == "no"
    assert alone_verdict(own, hurt, 0, shared=False) == "cannot tell"
