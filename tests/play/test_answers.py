"""The answer clean, edited and matched: equal to plain passes, one condition at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import httpx
import pytest
import torch

import broca
from broca.errors import PlayError
from broca.interventions import Fix, Scale
from broca.neurons import Neuron, NeuronIndex, NeuronSet, matched_together, uniform_random
from broca.play import Material
from broca.play.answering import answer_rows, chosen_answer
from broca.play.before import Before
from broca.play.editing import changes_of
from broca.play.state import Chip, State
from play.plain_play import ASKED, OFF, PROMPT, RELATION, answer_alone, result
from tiny import tiny_model


def test_a_set_takes_the_answer_and_matched_ones_do_not(client: httpx.Client):
    clean = result(client, "answer", ASKED)
    assert clean["asked"] == f"{PROMPT}? Answer:"
    assert clean["clean"]["text"] == "Cancer"
    assert clean["edited"] is None
    found = result(client, "answer", {**ASKED, "chips": [OFF]})
    assert found["clean"]["text"] == "Cancer"
    assert found["edited"]["text"] != "Cancer"
    assert len(found["draws"]) == 5
    assert {row["text"] for row in found["draws"]} == {"Cancer"}
    assert found["edited"]["log_p"] < min(row["log_p"] for row in found["draws"]) - 1
    assert found["edited"]["rank"] > 1
    assert found["neurons"] == 600


@pytest.mark.parametrize("positions", ["all", "last"])
def test_rows_equal_plain_passes(model, material: Material, positions: str):
    """Batch, cache and answer tokens behind the prompt change no number beyond 1e-5."""
    chips = (
        Chip(name="a", set=RELATION, change="off"),
        Chip(name="b", neurons=("hidden:0:7", "up:3:11"), change="scale", factor=3),
        Chip(name="c", neurons=("hidden:2:40",), change="mean"),
    )
    state = State(prompt=PROMPT, form="question", chips=chips, positions=positions)  # type: ignore[arg-type]
    made = changes_of(material, state)
    text = f"{PROMPT}? Answer:"
    answer = chosen_answer(model, text, "Canis Minor")
    assert len(answer) > 1
    rows = [[], made.edited, *made.draws[:2]]
    found = answer_rows(model, text, answer, rows, n_tokens=5)
    for row, changes in zip(found, rows, strict=True):
        p, said, log_p = answer_alone(model, text, answer, changes, 5)
        torch.testing.assert_close(row.next, p, atol=1e-5, rtol=1e-4)
        assert [one.id for one in row.said] == said[: len(row.said)]
        assert row.log_p == pytest.approx(log_p, abs=1e-4)
        assert row.rank == int((p > p[answer[0]]).sum()) + 1
        assert row.said[0].p == pytest.approx(float(p.max()), abs=1e-5)
    for row in found[:2]:  # of these alone other tokens are shown
        assert all(one.instead[0] == (one.text, one.p) for one in row.said)


def test_sets_that_overlap_are_changed_one_after_the_other(model, material: Material):
    """Off and then times 3 stays off; times 3 and then at its mean is the mean."""
    own = tuple(str(neuron) for neuron in material.find_set(RELATION))
    chips = (
        Chip(name="a", neurons=own[:40], change="off"),
        Chip(name="b", neurons=own[20:60], change="scale", factor=3),
        Chip(name="c", neurons=own[50:70], change="mean"),
    )
    for order in (chips, chips[::-1]):
        made = changes_of(material, State(prompt=PROMPT, chips=order))
        assert made.n_neurons == 70
        rows = [[], made.edited, made.draws[0]]
        found = answer_rows(model, PROMPT, (), rows, n_tokens=2)
        for row, changes in zip(found, rows, strict=True):
            p, said, _ = answer_alone(model, PROMPT, (), changes, 2)
            torch.testing.assert_close(row.next, p, atol=1e-5, rtol=1e-4)
            assert [one.id for one in row.said] == said[: len(row.said)]


def test_rows_that_are_over_leave_the_batch(model, monkeypatch):
    """Each row says what it says alone, whenever the others end."""
    assert model.drive.caches
    wide: list[int] = []
    plain = type(model).run

    def run(self, batch, **options):
        wide.append(len(batch))
        return plain(self, batch, **options)

    monkeypatch.setattr(type(model), "run", run)
    index = NeuronIndex(model.identity, ("gate", "up", "hidden"))
    hit = [uniform_random(index, 600, seed, name="hit") for seed in (0, 1)]
    rows = [[], *([Scale(one, factor)] for one in hit for factor in (3, -2, 8))]
    text = f"{PROMPT}? Answer:"
    found = answer_rows(model, text, (), rows, n_tokens=12)
    lengths = [len(row.said) for row in found]
    assert len(set(lengths)) > 2
    expected = [len(rows) + 1]  # seven are read as eight
    for step in range(1, max(lengths)):
        going = sum(n > step for n in lengths)
        expected.append(going if 2 * going <= expected[-1] else expected[-1])
    assert wide == expected
    assert expected[-1] < len(rows)
    for row, changes in zip(found, rows, strict=True):
        _, said, _ = answer_alone(model, text, (), changes, len(row.said))
        assert [one.id for one in row.said] == said


@pytest.mark.parametrize("positions", ["all", "last"])
def test_a_prompt_that_is_typed_goes_on_from_the_one_before(
    model, monkeypatch, material: Material, positions: str
):
    """What is kept of the prompt before changes no number, and few tokens are read again."""
    assert model.drive.caches
    read: list[int] = []
    plain = type(model).run

    def run(self, batch, **options):
        read.append(batch.ids.shape[1])
        return plain(self, batch, **options)

    monkeypatch.setattr(type(model), "run", run)
    state = State(prompt=PROMPT, positions=positions, chips=(Chip(name="a", set=RELATION),))  # type: ignore[arg-type]
    made = changes_of(material, state)
    rows, before = [[], made.edited, made.draws[0]], Before()
    texts = [f"{PROMPT} the sign? Answer:", f"{PROMPT} the sig? Answer:", PROMPT, PROMPT, "Iota"]
    cost = []
    for text in texts:
        for answer in ((), chosen_answer(model, text, "Canis Minor")):
            read.clear()
            found = answer_rows(model, text, answer, rows, n_tokens=3, before=before)
            cost.append((read[0], len(model.encode([text])[0]) + max(len(answer) - 1, 0)))
            alone = answer_rows(model, text, answer, rows, n_tokens=3)
            for one, other in zip(found, alone, strict=True):
                torch.testing.assert_close(one.next, other.next, atol=1e-5, rtol=1e-4)
                assert [said.id for said in one.said] == [said.id for said in other.said]
                assert one.log_p == pytest.approx(other.log_p, abs=1e-4)
                assert one.rank == other.rank
    assert cost[0][0] == cost[0][1]
    assert all(new < whole for new, whole in cost[1:-2])
    others = [[], made.edited, made.draws[1]]  # of other changes nothing holds
    answer_rows(model, PROMPT, (), rows, n_tokens=1, before=before)
    found = answer_rows(model, PROMPT, (), others, n_tokens=1, before=before)
    alone = answer_rows(model, PROMPT, (), others, n_tokens=1)
    torch.testing.assert_close(found[2].next, alone[2].next, atol=1e-5, rtol=1e-4)


def test_a_long_prompt_is_not_kept(model, monkeypatch):
    before = Before()
    answer_rows(model, PROMPT, (), [[]], n_tokens=1, before=before)
    assert before.past
    monkeypatch.setattr("broca.play.before.MOST_BYTES", 1000)
    answer_rows(model, PROMPT, (), [[]], n_tokens=1, before=before)
    assert not before.past
    assert answer_rows(model, PROMPT, (), [[]], n_tokens=1, before=before)[0].said


def test_the_first_tokens_are_told_before_the_rest(model, material: Material, monkeypatch):
    monkeypatch.setattr("broca.play.answering.MOMENT", 0.0)
    told: list[list] = []
    rows = answer_rows(model, PROMPT, (), [[], []], n_tokens=4, begun=told.append)
    (begun,) = told
    assert [len(row.said) for row in begun] == [1, 1]
    assert [row.said[0] for row in begun] == [row.said[0] for row in rows]
    assert [row.log_p for row in begun] == [row.log_p for row in rows]


def test_without_a_cache_it_is_the_same(model, material: Material, monkeypatch):
    state = State(prompt=PROMPT, chips=(Chip(name="a", set=RELATION),))
    made = changes_of(material, state)
    with_cache = answer_rows(model, PROMPT, (), [[], made.edited], n_tokens=6)
    monkeypatch.setattr(type(model.drive), "caches", property(lambda self: False))
    without = answer_rows(model, PROMPT, (), [[], made.edited], n_tokens=6)
    for one, other in zip(with_cache, without, strict=True):
        assert [said.id for said in one.said] == [said.id for said in other.said]
        assert one.log_p == pytest.approx(other.log_p, abs=1e-4)


def test_the_measurements_say_the_same(model, material: Material):
    """`answer_prompts`, which every study uses."""
    neurons = material.find_set(RELATION)
    prompt = broca.Prompt("p", f"{PROMPT}? Answer:", ("Cancer",))
    off = broca.Deactivate(neurons)
    rows = {r.condition: r for r in broca.answer_prompts(model, [prompt], {"a": None, "b": off})}
    answer = chosen_answer(model, prompt.text, "Cancer")
    found = answer_rows(model, prompt.text, answer, [[], [off]], n_tokens=3)
    for name, row in zip("ab", found, strict=True):
        assert row.log_p == pytest.approx(rows[name].log_p, abs=1e-4)
        assert row.rank == rows[name].rank


def test_an_empty_answer_is_the_models_own_token(client: httpx.Client):
    found = result(client, "answer", {**ASKED, "answer": ""})
    assert found["target"] == found["clean"]["said"][0]["text"]
    assert math.exp(found["clean"]["log_p"]) == pytest.approx(found["clean"]["said"][0]["p"])
    assert found["clean"]["rank"] == 1
    assert not found["chosen"]


def test_nothing_changes_where_nothing_is_changed(client: httpx.Client):
    """Times one is the identity, and so is a chip that is left alone."""
    same = {**OFF, "change": "scale", "factor": 1}
    found = result(client, "answer", {**ASKED, "chips": [same]})
    assert found["edited"]["log_p"] == pytest.approx(found["clean"]["log_p"], abs=1e-5)
    alone = result(client, "answer", {**ASKED, "chips": [{**OFF, "change": "none"}]})
    assert alone["edited"] is None


def plain_means(model, neurons: NeuronSet, prompts: Sequence[broca.Prompt]) -> list[float]:
    """Means at the last token, one prompt and one neuron at a time."""
    found = []
    for neuron in neurons:
        seen: list[torch.Tensor] = []
        for prompt in prompts:
            with model.watch(neuron.site, neuron.layer, seen.append):
                model.logits(model.pad(model.encode([prompt.text])))
        found.append(sum(float(v[0, -1, neuron.index]) for v in seen) / len(seen))
    return found


def test_means_are_those_of_other_prompts(material: Material, model):
    """Of all but the asked one, where that is among them; the page is told of how many."""
    neurons = NeuronSet.of([Neuron("hidden", 1, 5), Neuron("gate", 3, 9)], model.identity)
    every = material.reference
    assert material.means(neurons) == pytest.approx(plain_means(model, neurons, every), abs=1e-4)
    asked = every[4].text
    others = [prompt for prompt in every if prompt.text != asked]
    assert len(others) == len(every) - 1
    expected = plain_means(model, neurons, others)
    assert material.means(neurons, asked) == pytest.approx(expected, abs=1e-4)
    assert material.means(neurons, asked) != material.means(neurons)
    chips = (Chip(name="a", neurons=tuple(map(str, neurons)), change="mean"),)
    made = changes_of(material, State(prompt=asked, chips=chips))
    assert made.mean_of == len(others)
    (fixed,) = made.edited
    assert isinstance(fixed, Fix)
    assert fixed.value == material.means(neurons, asked)
    typed = State(prompt=f"{asked} x", chips=chips)
    assert changes_of(material, typed).mean_of == len(every)
    again = State(prompt=f"{asked} xy", chips=chips)
    assert changes_of(material, again) is changes_of(material, typed)  # while it is typed


def test_a_prompt_is_not_its_own_mean(material: Material, model):
    """In a run with this one prompt its mean was its own value: nothing changed, untold."""
    asked = material.prompts[0]
    alone = Material(model, prompts=[asked, asked])
    chips = (Chip(name="a", neurons=("hidden:1:5",), change="mean"),)
    with pytest.raises(PlayError, match="over other prompts and this prompt is the only one"):
        changes_of(alone, State(prompt=asked.text, chips=chips))
    assert changes_of(alone, State(prompt=f"{asked.text} x", chips=chips)).mean_of == 2


# ---- matched draws of several sets


def sets_of(*names: str) -> list[NeuronSet]:
    identity = tiny_model("llama").identity
    return [NeuronSet.of(map(Neuron.parse, name.split()), identity, name=name) for name in names]


def test_one_set_is_matched_as_ever():
    (one,) = sets_of("hidden:0:3 up:0:3 gate:1:4 down:2:5")
    drawn = matched_together([one], 7)[0]
    assert list(drawn) == list(one.matched_random(7))


@pytest.mark.parametrize("seed", range(8))
def test_sets_are_matched_outside_of_all_of_them(seed: int):
    sets = sets_of(
        "gate:0:3 up:0:3 hidden:1:4 down:2:5", "up:0:9 hidden:1:4 gate:0:9", "up:0:20 q:1:1"
    )
    drawn = matched_together(sets, seed)
    taken = {(n.layer, n.index) for one in sets for n in one if n.site in ("gate", "up", "hidden")}
    for own, other in zip(sets, drawn, strict=True):
        assert own.counts() == other.counts()
        assert own.n_units == other.n_units
        assert not set(other) & {n for one in sets for n in one}
        units = {(n.layer, n.index) for n in other if n.site in ("gate", "up", "hidden")}
        assert not units & taken
    shared = [
        list(other)[list(own).index(Neuron("hidden", 1, 4))]
        for own, other in zip(sets[:2], drawn[:2], strict=True)
    ]
    assert shared[0] == shared[1]
