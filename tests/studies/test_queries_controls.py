"""Controls of query neurons: prompts moved as said, letter neurons found, stability by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.prompts import ChoicePrompt
from broca.scores import Ranking
from broca.studies.queries.controls import letter_neurons, moved_options
from planted import planted_world
from planted_run import PlantedRun

OPTIONS, LABELS = ("ant", "bee", "cow", "dog"), ("A", "B", "C", "D")


def bee(text: str) -> ChoicePrompt:
    """A prompt whose right option is B, bee."""
    return ChoicePrompt("q/1", text, ("B",), options=OPTIONS, labels=LABELS, answer=1)


def test_the_right_option_comes_to_every_letter_and_nothing_else_changes() -> None:
    lines = "\n".join(f"{a}. {b}" for a, b in zip(LABELS, OPTIONS, strict=True))
    prompt = bee(f"Which?\n{lines}\nAnswer:")
    moved = list(moved_options(prompt))
    assert [one.answers[0] for one in moved] == ["A", "B", "C", "D"]
    assert {one.right for one in moved} == {"bee"}
    assert moved[1].options == ("cow", "bee", "dog", "ant")
    for one in moved:
        assert sorted(one.text.split()) == sorted(prompt.text.split())
        assert one.text.splitlines()[1 + one.answer] == f"{one.answers[0]}. bee"
    assert not list(moved_options(bee("Which one is it?")))


def test_effects_stand_by_letter_and_own_ones_are_those_of_the_paper(
    planted_run: PlantedRun,
) -> None:
    records = {(r["set"], r["asked"]): r for r in planted_run.table("controls", "effects")}
    (test,) = planted_run.table("controls", "test")
    here = planted_run.table("positions", "ways")[0]
    assert records["own", "found"]["change"] == pytest.approx(here["related"])
    # the planted regions serve their field at every letter
    assert records["own", "other letter"]["change"] < -0.3
    assert abs(records["matched", "other letter"]["change"]) < 0.15
    assert test["verdict"] == "yes"
    page = planted_run.page
    assert "Are they the question&#39;s neurons, not its letter&#39;s?" in page


def test_letter_neurons_are_those_that_other_questions_with_the_letter_have() -> None:
    identity = planted_world().language_model().identity
    letters = {"q0": "A", "q1": "A", "q2": "B", "q3": "A"}
    tops = {"q0": [1, 2], "q1": [1, 3], "q2": [3, 4], "q3": [1, 5]}
    part: Any = SimpleNamespace(
        sets=SimpleNamespace(
            identity=identity, site="hidden", counts=lambda: dict.fromkeys(letters, 2)
        ),
        questions={q: SimpleNamespace(base=q.replace("q3", "q0")) for q in letters},
        found=tuple(letters),
        prompts=lambda query: (SimpleNamespace(answers=(letters[query],)),),
        attributed={
            q: SimpleNamespace(tops=[Ranking(np.array(n), np.array([3.0, 1.0]))])
            for q, n in tops.items()
        },
    )
    found = letter_neurons(part)
    # of q0: q1 has its letter, q2 another, q3 is the same question; 3 lies in q1 and more in q2
    assert [(n.layer, n.index) for n in found["q0"]] == [(0, 1)]
    assert {n.index for n in found["q2"]} == set()
    assert {n.index for n in found["q1"]} == {1, 2}


def test_stability_equals_a_plain_loop(planted_run: PlantedRun) -> None:
    records = planted_run.table("controls", "stability")
    same = [r for r in records if r["question"] == "same"]
    other = [r for r in records if r["question"] == "other"]
    assert sum(r["pairs"] for r in same) == len(planted_run.sets.queries)
    mean = {
        name: np.average([r["jaccard"] for r in listed], weights=[r["pairs"] for r in listed])
        for name, listed in (("same", same), ("other", other))
    }
    assert mean["same"] > mean["other"]
    assert all(0 <= r["jaccard"] <= 1 for r in records)
