"""Common neurons: what they say, against random ones of their layers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import hypergeom

from broca.errors import ModelError
from broca.questions import write_questions
from broca.run import execute, read_job
from broca.store import RunFolder
from broca.studies.queries import common
from broca.studies.queries.common import letter_record, letter_words
from planted import FIELD_LAYER, planted_world
from planted_run import REGIONS, tables
from query_files import planted_questions


def test_planted_common_neurons_are_read(planted_regions: RunFolder) -> None:
    world = planted_world()
    common = {r["neuron"]: r for r in tables(planted_regions, "queries.common")["common"]}
    speaking = [n for n in world.common if n.layer == FIELD_LAYER + 1]
    for neuron in world.common:
        record = common[str(neuron)]
        if neuron in speaking:
            assert record["letter"]
            assert set(record["top"].split(" · ")[:4]) == set("ABCD")
            said = {obj for fact in world.facts for obj in fact.objects}
            assert {token.strip() for token in record["bottom"].split(" · ")} <= {
                word.partition(" ")[0] for word in said
            }
        else:  # they raise confidence, which no token reads
            assert (record["letter"], record["top"]) == (False, "")
    assert planted_regions.summary["queries.common.letters.p"] < 0.05


def test_a_model_whose_tokens_cannot_be_read_says_so(
    planted_regions: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("broca.studies.queries.common")

    def refuse(*_: Any, **__: Any) -> Any:
        raise ModelError("The final norm was not found")

    monkeypatch.setattr(module, "read_values", refuse)
    world = planted_world()
    questions = write_questions(planted_questions(world, 2), tmp_path / "questions.jsonl")
    job = read_job({**REGIONS, "studies": ["queries.common"], "questions": str(questions)})
    run = execute(job, tmp_path / "run", model=world.language_model(), report=False)
    assert any(
        "cannot be read: The final norm was not found" in text
        for text in run.read_json("findings.json")["queries.common"]["words"]
    )
    assert "queries.common.letters" not in run.summary


def neurons_with(layer: int, letters: int, n: int) -> list[dict[str, Any]]:
    """So many neurons of a layer, the first of them with a letter."""
    return [{"layer": layer, "letter": i < letters} for i in range(n)]


def test_letters_are_compared_with_neurons_of_the_same_layer() -> None:
    pool = neurons_with(0, 50, 50) + neurons_with(1, 0, 50)
    there = letter_record(neurons_with(0, 4, 4), pool, 99, 0)
    assert (there["letters"], there["random"], there["shuffled"], there["p"]) == (1, 1, 1, 1)
    other = letter_record(neurons_with(1, 4, 4), pool, 99, 0)
    assert (other["letters"], other["random"], other["shuffled"], other["p"]) == (1, 0, 0, 0.01)


def test_letters_of_common_neurons_are_exchanged_with_random_ones() -> None:
    """p equals the hypergeometric tail, whatever the pool happens to lack."""
    found = letter_record(neurons_with(3, 1, 5), neurons_with(3, 0, 50), 20_000, 0)
    assert found["p"] == pytest.approx(5 / 55, abs=0.01)
    found = letter_record(neurons_with(3, 3, 6), neurons_with(3, 4, 20), 20_000, 1)
    assert found["p"] == pytest.approx(hypergeom(26, 7, 6).sf(2), abs=0.01)
    assert "it cannot be told" in letter_words(found, 0.05)


def test_a_layer_without_random_neurons_tells_nothing_and_does_not_fail() -> None:
    both = neurons_with(0, 2, 3) + neurons_with(1, 1, 2)
    mixed = letter_record(both, neurons_with(1, 10, 40), 99, 0)
    assert mixed["random"] == 0.25
    alone = letter_record(both, [], 99, 0)
    assert (alone["random"], alone["shuffled"], alone["p"]) == (None, 0.6, 1.0)
    assert "there are none" in letter_words(alone, 0.05)


def test_layers_that_cannot_be_told_from_an_even_spread_are_not_called_even() -> None:
    records = neurons_with(3, 0, 2)
    text = common._layer_words(1, records, 4, 0.4, 0.05)
    assert "cannot be told from" in text
    assert "no more than" not in text
    assert "more than an even spread" in common._layer_words(2, records, 4, 0.01, 0.05)
