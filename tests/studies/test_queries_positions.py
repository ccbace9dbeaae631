"""Positions: every place equals a plain loop over whole prompts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.choices import find_letters
from broca.errors import QuestionsError, RecipeError
from broca.interventions import Scale, intervene
from broca.studies.queries import Material, QueriesConfig
from planted_run import PlantedRun


def plain_changes(run: PlantedRun, place: str) -> dict[str, float]:
    """Query -> mean (P' - P) / P with its own neurons off, one whole prompt after the other."""
    found: dict[str, list[float]] = {}
    for letters in find_letters(run.model, run.prompts):
        prompt = letters.prompt
        neurons = run.sets.neurons(prompt.fact)
        if not len(neurons):
            continue
        positions = {
            "answer": "last",
            "all": "all",
            "options": run.model.positions_of(prompt.text, prompt.option_lines()),
        }[place]
        with intervene(run.model, Scale(neurons, 0.0, positions)):
            p = float(run.model.probabilities([prompt.text])[0][letters.target])
        found.setdefault(prompt.fact, []).append(p / letters.p - 1)
    return {query: float(np.mean(values)) for query, values in found.items()}


@pytest.mark.parametrize("place", ["answer", "options", "all"])
def test_every_place_equals_a_plain_loop(planted_run: PlantedRun, place: str) -> None:
    record = next(r for r in planted_run.table("positions", "ways") if r["way"] == place)
    plain = plain_changes(planted_run, place)
    assert record["n"] == len(plain)
    assert record["related"] == pytest.approx(np.mean(list(plain.values())), abs=2e-4)


def test_where_the_answer_is_read_is_the_effect_of_the_paper(planted_run: PlantedRun) -> None:
    here = planted_run.table("positions", "ways")[0]
    whole = next(
        r
        for r in planted_run.table("effect", "effects")
        if (r["field"], r["action"]) == ("all", "suppress")
    )
    for name in ("related", "same", "unrelated", "matched", "p_matched", "within", "margin"):
        assert here[name] == pytest.approx(whole[name]), name
    assert here["matched_verdict"] == "yes"
    assert here["ceiling"] < -0.5
    page = planted_run.page
    assert "Do they also act elsewhere than where the answer is read?" in page
    rows = planted_run.folder.rows.read(columns=["positions", "intervention"]).to_pylist()
    assert {r["positions"] for r in rows if r["intervention"] == "none"} == {""}
    assert {"last", "options", "all"} <= {r["positions"] for r in rows}


def test_elsewhere_is_what_all_positions_add_beyond_matched_sets(planted_run: PlantedRun) -> None:
    """Acting where the answer is read, planted neurons add nothing elsewhere."""
    ways = {record["way"]: record for record in planted_run.table("positions", "ways")}
    (added,) = planted_run.table("positions", "elsewhere")
    beyond = {way: ways[way]["related"] - ways[way]["matched"] for way in ("answer", "all")}
    assert added["elsewhere"] == pytest.approx(beyond["answer"] - beyond["all"], abs=1e-6)
    assert ways["all"]["matched_verdict"] == "yes"
    assert added["elsewhere_verdict"] in ("no", "small", "not shown")
    assert planted_run.folder.summary["queries.positions.elsewhere"] == added["elsewhere"]


def test_words_have_no_lines_of_options() -> None:
    with pytest.raises(RecipeError, match="no lines of options"):
        QueriesConfig(answer="words", positions="options")


def test_words_chosen_by_measuring_have_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused where it is known, before queries are asked in words and attributed."""
    bench: Any = SimpleNamespace()  # whatever is asked of it fails
    material = Material(QueriesConfig(answer="auto", positions="options"))
    monkeypatch.setattr(Material, "_choose", lambda self, by, bench: "words")
    with pytest.raises(QuestionsError, match="no lines of options"):
        material.part("field", bench)
