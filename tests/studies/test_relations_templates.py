"""Other wordings of the planted facts."""

from __future__ import annotations

from broca.studies.relations.templates import OtherTemplates
from relation_bench import done


def test_other_wordings():
    found = done(OtherTemplates(), other_templates=("robustness", "held_out")).found
    wordings = {record["wordings"]: record for record in found.tables["wordings"]}
    assert wordings["robustness"]["significant"] == 8
    assert wordings["robustness"]["own_drop"] > 0.9
    assert "held_out" not in wordings
    assert len(found.tables["lacking"]) == 8
