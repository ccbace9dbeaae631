"""Injected facts: trained until known, into the chosen value vectors alone; recall by a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.edits import edited
from broca.effects.aims import make_aims
from broca.prompts import Prompt
from broca.report.locators.injection import injection_answers
from broca.studies.locators.injecting import draw_truth, inject
from broca.studies.locators.material import recalls
from locator_bench import stored
from tiny import TEXTS, tiny_model

KNOWN = 2.0  # a tiny model cannot be surer: the head has little to say


def plain_loss(model, prompt: Prompt, answer: list[int]) -> float:
    """Mean -log P of an answer's tokens, one whole forward pass per token."""
    ids = model.encode([prompt.text])[0]
    total = 0.0
    with torch.no_grad():
        for token in answer:
            logits = model.module(torch.tensor([ids])).logits[0, -1].double()
            total -= float(logits.log_softmax(-1)[token])
            ids = [*ids, token]
    return total / len(answer)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("answer", [" dog", "zebra"])  # of two tokens and of four
def test_a_fact_is_trained_until_it_is_known(family: str, answer: str) -> None:
    model = tiny_model(family)
    prompt = Prompt("p", TEXTS[1], (answer,))
    aims = make_aims(model, [prompt], "answer")[0]
    tokens = [aim.target for aim in aims]
    before = plain_loss(model, prompt, tokens)
    weights = {name: value.clone() for name, value in model.module.named_parameters()}
    truth = draw_truth(model, 0.3, [0, 1])
    found = inject(model, aims, truth, known=KNOWN)
    assert found.before == pytest.approx(before, abs=1e-4)
    assert found.loss < KNOWN < found.before
    shorter = inject(model, aims, truth, known=KNOWN, max_steps=found.n_steps - 1)
    assert shorter.loss >= KNOWN  # one step less, and it was not known
    for name, value in model.module.named_parameters():  # the model stays as it was
        assert torch.equal(value, weights[name])
    with edited(model, found.vectors):
        assert plain_loss(model, prompt, tokens) == pytest.approx(found.loss, abs=1e-3)
        chosen = {(neuron.layer, neuron.index) for neuron in truth}
        for layer in range(model.n_layers):
            now = model.value_weight(layer)
            moved = (now - _value_weight(model, weights, layer)).abs().amax(0) > 0
            assert {(layer, int(i)) for i in moved.nonzero()} == {
                p for p in chosen if p[0] == layer
            }
    assert plain_loss(model, prompt, tokens) == pytest.approx(before, abs=1e-4)


def _value_weight(model, weights, layer: int) -> torch.Tensor:
    """A layer's value vectors [d_model, neuron] out of copies of the weights."""
    own = model.block(layer).down.weight
    name = next(name for name, value in model.module.named_parameters() if value is own)
    weight = weights[name]
    return weight if weight.shape == model.value_weight(layer).shape else weight.T


def test_what_is_not_learned_in_time_is_not_known() -> None:
    model = tiny_model()
    aims = make_aims(model, [Prompt("p", TEXTS[1], ("zebra",))], "answer")[0]
    found = inject(model, aims, draw_truth(model, 0.02, [0, 1]), known=KNOWN, max_steps=2)
    assert found.n_steps == 3  # what the last step reached was looked at, and was too much
    assert found.loss > KNOWN


def test_truths_are_drawn_from_all_layers() -> None:
    model = tiny_model()
    drawn = [draw_truth(model, 0.1, [0, number]) for number in range(20)]
    n_neurons = model.n_layers * model.identity.width("hidden")
    assert {len(one) for one in drawn} == {round(0.1 * n_neurons)}
    assert len({tuple(map(str, one)) for one in drawn}) == 20
    assert {layer for one in drawn for layer in one.layers.tolist()} == set(range(model.n_layers))
    assert list(draw_truth(model, 0.1, [0, 3])) == list(drawn[3])


@pytest.mark.parametrize("seed", range(8))
def test_recall_against_a_loop(seed: int) -> None:
    """Ties come in the order of places, in every layer and over all."""
    rng = np.random.default_rng(seed)
    layers, width = 3, 40
    values = rng.integers(0, 12, (layers, width)).astype(np.float32)  # many ties
    truth = rng.choice(layers * width, 11, replace=False)
    shares = [0.01, 0.1, 0.33, 1.0]
    found = recalls(values, truth, shares)
    places = [(layer, index) for layer in range(layers) for index in range(width)]
    for number, share in enumerate(shares):
        ranked = sorted(places, key=lambda p: -values[p])  # stable
        first = ranked[: max(1, round(share * len(places)))]
        inside = []
        for layer in range(layers):
            here = [p for p in ranked if p[0] == layer]
            inside += here[: max(1, round(share * width))]
        true = [divmod(int(flat), width) for flat in truth]
        for kind, chosen in (("global", first), ("layer", inside)):
            hits = sum(place in chosen for place in true)
            assert found[kind][number] == pytest.approx(hits / len(true)), kind
    assert found["global"][-1] == found["layer"][-1] == 1.0


def mask(name: str, gap: float, low: float | None, high: float | None) -> dict[str, object]:
    ends = {"global_0_gap_low": low, "global_0_gap_high": high}
    return {"locator": name, "title": name, "global_0": 0.3 + gap, "global_0_gap": gap, **ends}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.06, 0.2, "Yes"),
        (0.01, 0.2, "Small effect"),
        (-0.01, 0.2, "Not shown"),
        (-0.2, 0.04, "No"),
        (None, None, "This run cannot tell"),
    ],
)
def test_masks_are_better_only_beyond_the_smallest_difference_of_interest(
    low: float | None, high: float | None, verdict: str
) -> None:
    records = [
        {"locator": "ig", "title": "IG", "n": 17, "global_0": 0.3},
        mask("slimming", 0.1, low, high),
    ]
    (answer,) = injection_answers(stored({"recall_shares": [0.01]}, locators=records), "")
    assert answer.answer == verdict
    assert "10.0" in answer.detail
    records.append(mask("hard-concrete", 0.1, -0.1, 0.3))
    (both,) = injection_answers(stored({"recall_shares": [0.01]}, locators=records), "")
    assert both.answer == {"Yes": "In part", "No": "Not shown"}.get(verdict, both.answer)
    assert not injection_answers(stored({}, locators=records[:1]), "")
