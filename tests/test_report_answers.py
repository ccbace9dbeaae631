"""The first screen: no evidence is not equality, and settings are read where they stand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from broca.report.page import Answer
from broca.report.parts.outcomes import action_words
from broca.report.parts.study import find_report
from broca.report.relations import notices
from broca.report.stored_run import StoredRun
from broca.store import RunFolder


class Stored:
    """A run folder that holds no more than findings and settings."""

    def __init__(self, findings: dict[str, Any], config: dict[str, Any]) -> None:
        self.findings, self.config, self.summary = findings, config, {}

    def read_json(self, name: str) -> Any:
        assert name == "findings.json"
        return self.findings


def stored(study: str, config: dict[str, Any] | None = None, **tables: Any) -> StoredRun:
    return StoredRun(cast(RunFolder, Stored({study: {"tables": tables}}, config or {})))


def answers(run: StoredRun) -> list[Answer]:
    """What the only study of a run says on the first screen."""
    (study,) = run.findings
    shown = find_report(study)
    assert shown is not None
    return shown.answers(run, study)


# ---- flips


def flips_answer(gap: tuple[float, float] | None, p: float | None, **more: Any) -> Answer:
    """Of a run whose own neurons, suppressed, are compared as given."""
    own: dict[str, Any] = {"field": "all", "method": "na-ica", "action": "suppress", "rate": 0.4}
    own |= {"n": 40, "candidates": 80}
    own |= {} if p is None else {"p_matched": p}
    pair = {"method": "na-ica", "other": "random", "action": "suppress"}
    paired = [] if gap is None else [pair | {"gap_low": gap[0], "gap_high": gap[1]}]
    run = stored("queries.flips", flips=[own], paired=paired, caution=[], **more)
    (answer,) = answers(run)
    return answer


@pytest.mark.parametrize(
    ("gap", "p", "words", "tone"),
    [
        ((0.1, 0.3), 0.6, "Yes", "yes"),
        ((-0.02, 0.3), 0.001, "Cannot be told from random neurons", "plain"),
        ((-0.02, 0.03), 0.001, "No more than random neurons, within 5 points", "no"),
        (None, 0.001, "Yes", "yes"),
        (None, 0.2, "Cannot be told from random neurons", "plain"),
        (None, None, "Not compared with random neurons", "plain"),
    ],
)
def test_flips_are_compared_with_what_the_run_has(
    gap: tuple[float, float] | None, p: float | None, words: str, tone: str
) -> None:
    answer = flips_answer(gap, p)
    assert answer.answer.startswith(words)
    assert answer.tone == tone


def test_matched_neurons_are_judged_at_the_level_of_the_run() -> None:
    run = stored(
        "queries.flips",
        {"queries": {"alpha": 0.001}, "relations": {"alpha": 0.05}},
        flips=[
            {"field": "all", "method": "na-ica", "action": "suppress", "rate": 0.4, "n": 40}
            | {"candidates": 80, "p_matched": 0.01}
        ],
    )
    assert answers(run)[0].answer == "Cannot be told from random neurons"


# ---- prediction


def prediction_answer(**ends: tuple[float | None, float | None]) -> Answer:
    record: dict[str, Any] = dict.fromkeys(("neurons", "model", "random", "chance"), 0.5)
    record |= {"auroc": None}
    for name in ("beyond_random", "beyond_chance", "beyond_model"):
        record[f"{name}_low"], record[f"{name}_high"] = ends.get(name, (0.1, 0.3))
    (answer,) = answers(stored("queries.prediction", fields=[record], caution=[]))
    return answer


@pytest.mark.parametrize(
    ("ends", "words", "tone"),
    [
        ({"beyond_model": (-0.04, 0.1)}, "As well as the model itself, within 5 points", "yes"),
        ({"beyond_model": (-0.3, 0.1)}, "Better than chance; cannot be told", "mixed"),
        ({"beyond_model": (-0.3, -0.1)}, "Better than chance, worse than the model", "mixed"),
        ({"beyond_random": (-0.1, 0.3)}, "Cannot be told from random neurons", "plain"),
        ({"beyond_chance": (None, None)}, "Cannot be told from guessing", "plain"),
        ({"beyond_random": (-0.1, 0.02)}, "No better than random neurons, within 5 points", "no"),
    ],
)
def test_prediction_is_called_as_good_only_within_a_margin(
    ends: dict[str, Any], words: str, tone: str
) -> None:
    answer = prediction_answer(**ends)
    assert answer.answer.startswith(words)
    assert answer.tone == tone


# ---- places of fields


def places_answer(
    p: float, p_index: float, *, near: bool = False, config: dict[str, Any] | None = None
) -> Answer:
    """Of two fields with the same p-values."""
    whole = {"field": "all", "share": 0.5, "shuffled": 0.4, "p": p}
    field = whole | {"field": "a", "p_holm": p, "p_index_holm": p_index}
    found = stored(
        "queries.localisation",
        config,
        shares=[whole, field, field],
        caution=[{"near_chance": near}],
    )
    (answer,) = answers(found)
    return answer


def test_regions_alone_are_no_plain_no() -> None:
    assert places_answer(0.5, 0.5).answer == "Not shown"
    assert places_answer(0.5, 0.01).tone == "mixed"
    assert places_answer(0.01, 0.01).tone == "yes"


def test_places_of_a_model_that_knows_nothing_are_not_judged() -> None:
    answer = places_answer(0.01, 0.01, near=True)
    assert (answer.answer, answer.tone) == ("This run cannot tell", "plain")


# ---- settings


def test_settings_are_read_where_they_stand() -> None:
    two = {"relations": {"k": 5, "alpha": 0.2}, "queries": {"alpha": 0.01}}
    run = stored("x", two)
    assert run.setting("relations", "alpha", 0.05) == 0.2
    assert run.setting("queries", "alpha", 0.05) == 0.01
    assert run.setting("queries", "k") is None
    # the relations that are studied, no table of settings
    one = stored("x", {"relations": ["river", "ceo"], "alpha": 0.3})
    assert one.setting("relations", "alpha", 0.05) == 0.3
    assert one.setting("queries", "seed", 7) == 7


def test_pages_of_two_families_follow_the_settings_of_each() -> None:
    config = {"relations": {"detection_filter": "none"}, "queries": {"suppress": 0.5, "alpha": 0.1}}
    assert action_words(stored("x", config), "suppress") == "suppressed (× 0.5)"
    assert places_answer(0.08, 0.08, config=config).tone == "yes"
    assert "wrongly" in " ".join(notices(stored("relations.x", config)))
    assert not notices(stored("relations.x", {}))
