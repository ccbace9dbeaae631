"""The first screen: no evidence is not equality, and settings are read where they stand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from broca.report.page import Answer
from broca.report.parts.compared import shared_answers, shared_figures
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


def flips_answer(beyond: tuple[float | None, float | None] | None, **more: Any) -> Answer:
    """Of a run whose own neurons, suppressed, flip more than matched ones as given."""
    own: dict[str, Any] = {"field": "all", "method": "na-ica", "action": "suppress", "rate": 0.4}
    own |= {"n": 40, "candidates": 80, "p_matched": 0.001, **more.pop("own", {})}
    if beyond is not None:
        own |= {"beyond": 0.1, "beyond_low": beyond[0], "beyond_high": beyond[1], "matched": 0.1}
    run = stored("queries.flips", more.pop("config", None), flips=[own], caution=[], **more)
    (answer,) = answers(run)
    return answer


@pytest.mark.parametrize(
    ("beyond", "own", "words"),
    [
        ((0.06, 0.3), {}, "Yes"),
        ((0.02, 0.3), {}, "Small effect"),
        ((0.06, 0.3), {"p_matched": 0.2}, "Not shown"),
        ((-0.02, 0.03), {}, "No"),
        ((-0.02, 0.3), {}, "Not shown"),
        ((None, None), {}, "This run cannot tell"),
        (None, {}, "This run cannot tell"),
        ((0.06, 0.3), {"n": 4}, "This run cannot tell"),
    ],
)
def test_flips_are_judged_on_the_scale(
    beyond: tuple[float | None, float | None] | None, own: dict[str, Any], words: str
) -> None:
    assert flips_answer(beyond, own=own).answer == words


def test_matched_neurons_are_judged_at_the_level_of_the_run() -> None:
    config = {"queries": {"alpha": 0.001}, "relations": {"alpha": 0.05}}
    found = flips_answer((0.06, 0.3), own={"p_matched": 0.01}, config=config)
    assert found.answer == "Not shown"


# ---- prediction


def prediction_answer(**ends: tuple[float | None, float | None]) -> Answer:
    record: dict[str, Any] = dict.fromkeys(("neurons", "model", "random", "chance"), 0.5)
    record |= {"auroc": None, "p_holm": 0.01}
    for name in ("beyond_random", "beyond_chance"):
        record[name] = 0.2
        record[f"{name}_low"], record[f"{name}_high"] = ends.get(name, (0.1, 0.3))
    (answer,) = answers(stored("queries.prediction", fields=[record], caution=[]))
    return answer


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({}, "Yes"),
        ({"beyond_random": (-0.1, 0.3)}, "Not shown"),
        ({"beyond_chance": (None, None)}, "This run cannot tell"),
        ({"beyond_random": (-0.1, 0.02)}, "No"),
        ({"beyond_chance": (0.01, 0.3)}, "Small effect"),
    ],
)
def test_prediction_is_judged_by_the_harder_of_its_rivals(ends: dict[str, Any], words: str) -> None:
    assert prediction_answer(**ends).answer == words


# ---- several runs


def test_several_runs_give_one_answer_per_question() -> None:
    one = Answer("Does it?", "Yes", "3 points.", "yes")
    other = Answer("Does it?", "No", "0 points.", "no")
    alone = Answer("Why?", "Not shown", "n = 2.")
    both, single = shared_answers({"a": [one], "b": [other, alone]})
    assert (both.answer, both.tone) == ("a: Yes · b: No", "mixed")
    assert both.detail == "a: 3 points. b: 0 points."
    assert (single.answer, single.tone) == ("b: Not shown", "plain")


def test_several_runs_share_charts_of_what_two_of_them_have() -> None:
    def run(**summary: float) -> StoredRun:
        folder = Stored({}, {})
        folder.summary = {name.replace("__", "."): value for name, value in summary.items()}
        return StoredRun(cast(RunFolder, folder))

    loss = "effect__own_loss"
    runs = {
        "a": run(**{loss: 0.4, f"{loss}_low": 0.3, f"{loss}_high": 0.5}),
        "b": run(**{loss: 0.1, f"{loss}_low": 0.0, f"{loss}_high": 0.2}),
        "c": run(**{"queries__na-ica__suppress__related": -0.2}),
    }
    (figure,) = shared_figures(runs)
    assert figure.values == [
        "own relation · a: 40.0 % [30.0 %, 50.0 %]",
        "own relation · b: 10.0 % [0.0 %, 20.0 %]",
    ]
    assert not shared_figures({"a": runs["a"]})


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
