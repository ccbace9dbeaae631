"""Wording × subject: readings by hand, and neurons of either kind told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from broca.neurons import NeuronIndex
from broca.responses import Responses
from broca.store import RunFolder
from broca.studies.relations.controls import FinderControls
from broca.studies.relations.crossing import _record, content_words, readings
from planted import planted_world
from relation_bench import done, prepared


def test_content_words_are_what_function_words_leave() -> None:
    assert content_words("Who is the CEO of {}") == {"ceo"}
    assert content_words("The company {} is led by") == {"company", "led"}
    assert not content_words("What is {} of the") & content_words("Where was {}")


def made(values: np.ndarray) -> tuple[Responses, Any]:
    """Responses [prompt, neuron] of the first hidden neurons of layer 0, and these as a set."""
    identity = planted_world().language_model().identity
    index = NeuronIndex(identity, ("hidden",))
    blocks = {}
    for site, layer, where in index.blocks():
        blocks[site, layer] = np.zeros((len(values), where.stop - where.start), np.float32)
    blocks["hidden", 0][:, : values.shape[1]] = values
    ids = tuple(map(str, range(len(values))))
    responses = Responses(index, ids, "mean", "key", None, None, blocks)
    return responses, index.select(np.arange(values.shape[1]), name="ceo")


def test_readings_equal_plain_standardised_means() -> None:
    values = np.random.default_rng(0).normal(3, 2, (20, 4))
    responses, neurons = made(values)
    rows = [1, 5, 7, 8, 19]
    chosen = values[rows].astype(np.float32)
    plain = [
        np.mean([(v - chosen[:, n].mean()) / chosen[:, n].std() for n, v in enumerate(line)])
        for line in chosen
    ]
    assert readings(responses, neurons, rows) == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize(("wording", "subject", "share"), [(1, 0, 1.0), (0, 1, 0.0), (1, 1, 0.5)])
def test_the_wordings_share(wording: float, subject: float, share: float) -> None:
    """Neurons that respond to own wordings, to own subjects, or to both alike."""
    cells = {("r", "r"): (1, 1), ("r", "q"): (1, 0), ("q", "r"): (0, 1), ("q", "q"): (0, 0)}
    noise = np.random.default_rng(1).normal(0, 1e-3, (40, 3))
    level = [wording * w + subject * s for w, s in cells.values() for _ in range(10)]
    responses, neurons = made(noise + np.array(level)[:, None])
    rows = {pair: list(range(10 * i, 10 * i + 10)) for i, pair in enumerate(cells)}
    material: Any = type("M", (), {"sets": {"r": neurons}})
    record = _record(material, "r", "q", responses, rows)
    assert record["wording_share"] == pytest.approx(share, abs=0.02)
    assert record["own_own"] > record["neither"]


def test_the_planted_relations_are_crossed_with_their_partners() -> None:
    found = done(FinderControls(), n_shuffled=1).found
    names = prepared().material.names
    assert [record["relation"] for record in found.tables["cross"]] == list(names)
    assert all(record["partner"] != record["relation"] for record in found.tables["cross"])
    # planted neurons read the wording: it alone tells the relation of a planted prompt
    assert found.figures["controls.cross_wording_share"] > 0.8


def test_twenty_shuffles_of_the_labels_manufacture_nothing():
    found = done(FinderControls(), n_shuffled=20).found
    assert len(found.tables["shuffled"]) == 20 * 8
    assert abs(found.figures["controls.shuffled_beyond_matched"]) <= 0.05
    assert found.figures["controls.template_kept"] > 0.9


def test_template_control(relation_run: RunFolder):
    """The planted neurons read the relation word, whatever the wording."""
    records = relation_run.read_json("findings.json")["relations.controls"]["tables"]["templates"]
    assert len(records) == 4
    for record in records:
        assert record["ap_other"] > 2 * record["chance"]
