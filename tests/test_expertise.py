"""Expertise over blocks of responses, negatives by seed, and the top k."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from broca.errors import ScoreError
from broca.neurons import ModelIdentity, Neuron, NeuronIndex
from broca.scores import (
    NeuronScores,
    draw_negatives,
    expertise,
    score_expertise,
    score_expertise_many,
    shuffle_labels,
)
from broca.scores.chance import chance_in_set

IDENTITY = ModelIdentity("tiny", "abc", 2, {"gate": 5, "hidden": 5, "down": 3})
LABELS = [f"r{i % 3}" for i in range(30)]


class Recorded:
    """Responses in memory that count how often a block is read."""

    def __init__(self, sites=("gate", "down"), n_prompts=30, seed=0):
        rng = np.random.default_rng(seed)
        self.index = NeuronIndex(IDENTITY, sites)
        self.prompt_ids = [f"p{i}" for i in range(n_prompts)]
        self.reads = 0
        self.blocks = {
            (site, layer): np.round(
                rng.normal(size=(n_prompts, where.stop - where.start)), 1
            ).astype(np.float32)
            for site, layer, where in self.index.blocks()
        }

    def block(self, site, layer):
        self.reads += 1
        return self.blocks[site, layer]


def plain_scores(responses, positive, included):
    """Neuron by neuron through scikit-learn, in index order."""
    out = []
    for site, layer, _ in responses.index.blocks():
        for column in responses.blocks[site, layer].T:
            out.append(average_precision_score(positive[included], column[included]))
    return np.array(out)


def test_one_labelling_equals_scikit_learn_in_index_order():
    responses = Recorded()
    labelling = draw_negatives(LABELS, "r1", ratio=1.5, seed=3)
    scores = score_expertise(responses, *labelling)
    np.testing.assert_allclose(scores.values, plain_scores(responses, *labelling), atol=1e-12)
    assert scores.settings == {"n_positive": 10, "n_included": 25}
    assert len(scores) == 16


def test_many_labellings_read_each_block_once_and_equal_single_ones(monkeypatch):
    monkeypatch.setattr(expertise, "_READ_BYTES", 300)  # two neurons at a time
    responses = Recorded()
    labellings = {r: draw_negatives(LABELS, r, ratio=1) for r in ("r0", "r1", "r2")}
    many = score_expertise_many(responses, labellings)
    assert responses.reads == 4
    for name, labelling in labellings.items():
        np.testing.assert_allclose(
            many[name].values, plain_scores(responses, *labelling), atol=1e-12
        )
        single = score_expertise(responses, *labelling)
        np.testing.assert_allclose(single.values, many[name].values, atol=1e-15)
        assert many[name].data_hash == single.data_hash
    assert len({scores.data_hash for scores in many.values()}) == 3
    assert score_expertise_many(responses, {}) == {}


def test_all_prompts_take_part_by_default():
    responses = Recorded()
    positive = np.array([label == "r0" for label in LABELS])
    expected = plain_scores(responses, positive, np.ones(30, bool))
    np.testing.assert_allclose(score_expertise(responses, positive).values, expected, atol=1e-12)


def test_a_planted_neuron_comes_first():
    responses = Recorded()
    positive = np.array([label == "r0" for label in LABELS])
    responses.blocks["down", 1][:, 2] = positive + 10
    best = score_expertise(responses, positive).top(1, name="r0")
    assert list(best) == [Neuron("down", 1, 2)]
    assert best.scores[0] == 1.0
    assert best.name == "r0"
    assert best.method == "expertise"
    assert best.settings["k"] == 1
    assert best.data_hash


def test_top_breaks_ties_in_index_order_on_request_and_keeps_to_sites():
    index = NeuronIndex(IDENTITY, ("down", "gate"))
    values = np.zeros(16)
    values[[7, 12]] = 1.0
    scores = NeuronScores(index, values, "test")
    first = [str(neuron) for neuron in scores.top(4, ties="order")]
    assert first == ["gate:1:2", "down:0:2", "gate:0:0", "gate:0:1"]
    down = [str(neuron) for neuron in scores.top(2, sites=["down"], ties="order")]
    assert down == ["down:0:2", "down:0:0"]
    assert len(scores.top(16)) == 16


@pytest.mark.parametrize(("k", "sites"), [(17, None), (0, None), (7, ["down"])])
def test_a_k_that_does_not_exist_is_refused(k, sites):
    scores = NeuronScores(NeuronIndex(IDENTITY, ("gate", "down")), np.zeros(16), "test")
    with pytest.raises(ScoreError, match=f"top {k}"):
        scores.top(k, sites=sites)


def test_scores_must_cover_the_index():
    with pytest.raises(ScoreError, match="16 neurons"):
        NeuronScores(NeuronIndex(IDENTITY, ("gate", "down")), np.zeros(3), "test")


def test_negatives_are_drawn_by_seed_from_the_others():
    labels = ["a"] * 5 + ["b"] * 40 + ["c"] * 40
    drawn = draw_negatives(labels, "a", ratio=4, seed=1)
    assert drawn.positive.sum() == 5
    assert drawn.included.sum() == 25
    assert (drawn.included >= drawn.positive).all()
    again, other = draw_negatives(labels, "a", seed=1), draw_negatives(labels, "a", seed=2)
    np.testing.assert_array_equal(drawn.included, again.included)
    assert (drawn.included != other.included).any()
    assert draw_negatives(labels, "b", ratio=4).included.all()  # too few others: all of them


def test_shuffled_labels_are_the_same_labels_elsewhere():
    shuffled = shuffle_labels(LABELS, seed=1)
    assert sorted(shuffled) == sorted(LABELS)
    assert shuffled != LABELS
    assert shuffled == shuffle_labels(LABELS, seed=1)
    assert shuffled != shuffle_labels(LABELS, seed=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_negatives(LABELS, "r9"), "no prompt"),
        (lambda: draw_negatives(["a", "a"], "a"), "another relation"),
        (lambda: draw_negatives(LABELS, "r1", ratio=0), "negatives per positive"),
        (lambda: score_expertise(Recorded(), np.zeros(30, bool)), "no positive"),
        (lambda: score_expertise(Recorded(), np.ones(30, bool)), "no negative"),
        (lambda: score_expertise(Recorded(), np.ones(29, bool)), "do not fit 30 prompts"),
        (
            lambda: score_expertise_many(Recorded(), {"r": (np.ones(30), np.ones(2))}),
            "do not fit",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ScoreError, match=message):
        call()


def test_a_block_of_another_shape_is_refused():
    good = Recorded()
    bad = SimpleNamespace(
        index=good.index, prompt_ids=good.prompt_ids, block=lambda *_: np.ones((30, 4))
    )
    with pytest.raises(ScoreError, match="gate, layer 0"):
        score_expertise(bad, np.array([label == "r0" for label in LABELS]))


def test_responses_on_disk(tmp_path):
    responses = Recorded()
    for number, (key, block) in enumerate(responses.blocks.items()):
        path = tmp_path / f"{number}.npy"
        np.save(path, block)
        responses.blocks[key] = np.load(path, mmap_mode="r")
    labelling = draw_negatives(LABELS, "r0", ratio=1)
    np.testing.assert_allclose(
        score_expertise(responses, *labelling).values,
        plain_scores(responses, *labelling),
        atol=1e-12,
    )


def test_ties_favour_no_site_or_layer_and_are_counted():
    identity = ModelIdentity("m", "f", 6, {"gate": 400, "up": 400})
    index = NeuronIndex(identity, ("gate", "up"))
    values = np.zeros(4800)
    values[:40] = 2.0
    top = NeuronScores(index, values, "test").top(1240)
    assert (top.settings["tied"], top.settings["tied_in"]) == (4760, 1200)
    rest = top.ranks(40, 1240)
    shares = np.array(list(rest.counts().values()))
    assert len(shares) == 12
    assert (abs(shares - 100) < 40).all()  # 100 expected, standard deviation 9
    again = NeuronScores(index, values, "test").top(1240)
    assert again.digest == top.digest
    clear = NeuronScores(index, np.arange(4800.0), "test").top(3)
    assert (clear.settings["tied"], clear.settings["tied_in"]) == (1, 1)


def test_a_set_that_shuffled_labels_would_find_tells_how_many_facts_are_needed():
    # 4 positives of 8: a random neuron is perfect with probability 1 / 70
    found = chance_in_set(1.0, 200, 46_080, 4, 4)
    assert found.expected == pytest.approx(46_080 / 70, rel=0.3)
    assert found.needed is not None
    assert chance_in_set(1.0, 200, 46_080, found.needed, found.needed).needed is None
    assert chance_in_set(1.0, 200, 46_080, found.needed - 1, found.needed - 1).needed is not None
    assert chance_in_set(0.6, 1167, 7296, 80, 320).needed is None
    assert chance_in_set(0.2, 1167, 7296, 80, 320).expected > 1167
