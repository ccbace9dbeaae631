"""What is put in neurons' place: figures of the study against a plain recount."""

from __future__ import annotations

import numpy as np
import pytest

from broca.studies.relations.replacement import ReplacementStudy
from relation_bench import Done, done, planted_sets, prepared


@pytest.fixture(scope="module")
def study() -> Done:
    return done(ReplacementStudy(), sets=planted_sets(), n_active=20, n_null=12)


def test_planted_neurons_survive_every_replacement(study: Done) -> None:
    kinds = {record["replacement"]: record for record in study.found.tables["kinds"]}
    assert list(kinds) == ["zero", "mean", "resample"]
    for record in kinds.values():
        assert record["own"] > 0.5
        assert record["matched"] < 0.2
        assert record["matched_yes"] >= 0.75 * record["relations"]
        here = [
            one["own"] - one["matched"]
            for one in study.found.tables["relations"]
            if one["replacement"] == record["replacement"]
        ]
        assert record["matched_beyond"] == pytest.approx(np.mean(here))
        assert record["matched_beyond_low"] < np.mean(here) < record["matched_beyond_high"]
        assert (record["matched_verdict"], record["active_verdict"]) == ("yes", "yes")
    assert len(study.found.words) == 2


def test_losses_are_counted_on_the_same_facts(study: Done) -> None:
    material = prepared().material
    for record in study.found.tables["relations"]:
        ranked = study.results.extra["ranked"][record["replacement"]][record["relation"]]
        facts = [p.id for p in material.evaluation[record["relation"]][:12]]
        own = study.results[ranked.own]
        assert own.prompt.tolist() == facts
        assert record["own"] == pytest.approx(np.mean(own.correct_before) - np.mean(own.correct))
        losses = []
        for condition in ranked.drawn["matched"]:
            drawn = study.results[condition]
            assert drawn.prompt.tolist() == facts
            losses.append(np.mean(drawn.correct_before) - np.mean(drawn.correct))
        assert record["matched"] == pytest.approx(np.mean(losses))
        assert 1 / 21 <= record["matched_p"] <= 1
