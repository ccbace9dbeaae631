"""Finding neurons: equal to locators, single ablations and finite differences; stopped."""

from __future__ import annotations

import threading
import time
from functools import partial

import httpx
import numpy as np
import pytest

import broca
from broca.effects import ablate_one
from broca.errors import PlayError
from broca.locators import LOCATORS
from broca.neurons import Neuron, NeuronIndex, uniform_random
from broca.play.answering import chosen_answer
from broca.play.editing import answer
from broca.play.finding import LISTED, _pulse, find, gradient_map, methods
from broca.play.graph import pair
from broca.play.jobs import Event, Job, Jobs, Stopped
from broca.play.material import Material
from broca.play.state import Chip, State
from play.plain_play import ASKED, PROMPT, RELATION, events, wait_for

TEXT = f"{PROMPT}? Answer:"


def deaf() -> Job:
    return Job(lambda job: None, lambda event: None)


@pytest.fixture(scope="module")
def found(client_of_module: httpx.Client) -> list:
    return events(
        client_of_module.post("/api/find", json={**ASKED, "method": "gradient-activation"})
    )


@pytest.fixture(scope="module")
def client_of_module(server):
    with httpx.Client(base_url=server.url, timeout=300, trust_env=False) as client:
        yield client


def test_neurons_and_effects_are_those_of_the_library(found, model):
    kind, data = found[-1]
    assert kind == "result"
    neurons = data["value"]["neurons"]
    assert len(neurons) == LISTED
    prompt = broca.Prompt("p", TEXT, ("Cancer",))
    located = broca.locate(model, [prompt], "gradient-activation")
    assert [one["neuron"] for one in neurons] == [str(n) for n in located.ranking(0, LISTED)]
    for one in neurons[:4]:
        neuron = Neuron.parse(one["neuron"])
        assert one["value"] == pytest.approx(located.values[0, neuron.layer, neuron.index])
        loss, _ = ablate_one(model, prompt, neuron.layer, neuron.index)
        assert one["effect"] == pytest.approx(loss, abs=1e-5)


def test_effects_of_several_tokens_are_summed(material: Material, model):
    """Each without the neuron at the last position before it, by plain hooks and whole passes."""
    asked = State(prompt=TEXT, answer="Canis Minor", method="gradient-activation")
    found = find(material, asked, deaf())
    prompt, target = model.encode([TEXT])[0], chosen_answer(model, TEXT, "Canis Minor")
    assert found["n_answer"] == len(target) > 1

    def log_p(ids: list[int], token: int) -> float:
        return float(model.logits(model.pad([ids]))[0, -1].double().log_softmax(-1)[token])

    for one in found["neurons"][:3]:
        neuron, loss = Neuron.parse(one["neuron"]), 0.0

        def off(module, inputs, index=neuron.index):
            values = inputs[0].clone()
            values[:, -1, index] = 0
            return (values,)

        for place, token in enumerate(target):
            ids = [*prompt, *target[:place]]
            loss += log_p(ids, token)
            down = model.layers[neuron.layer].mlp.down_proj
            with down.register_forward_pre_hook(off):
                loss -= log_p(ids, token)
        assert one["effect"] == pytest.approx(loss, abs=1e-4)


def test_a_search_tells_how_far_it_is(found):
    kinds = [kind for kind, _ in found]
    assert kinds[-1] == "result"
    assert "part" in kinds
    progress = [data for kind, data in found if kind == "progress"]
    assert progress
    assert all(0 <= one["done"] <= one["total"] for one in progress)


def test_the_time_left_is_that_of_the_round_under_way(model, monkeypatch):
    """Integrated gradients goes on in rounds of more and more steps."""
    now, told = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pulse = _pulse(Job(lambda job: None, lambda event: told.append(dict(event))), "x", model)
    for now[0], done, total in [(0, 0, 2), (10, 1, 2), (20, 2, 2), (20.5, 0, 4), (22.5, 1, 4)]:
        pulse(done, total)
    assert told[-1]["left"] == 6


def test_time_given_to_others_is_not_that_of_the_search(model, monkeypatch):
    now, told = [1.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def give_way() -> float:
        now[0] += 50
        return 50.0

    job = Job(lambda job: None, lambda event: told.append(dict(event)), give_way=give_way)
    pulse = _pulse(job, "x", model)
    for done in range(3):
        pulse(done, 4)
        now[0] += 10
    assert [one["left"] for one in told] == [None, 30, 20]


def search_and_ask(material: Material, method: str) -> tuple[list[tuple[str, str]], dict, dict]:
    """An answer that is asked for at a search's first sign of progress: events, both results."""
    vars(material).pop("before", None)
    jobs = Jobs(n_threads=1)
    heard: list[tuple[str, str]] = []
    results: dict[str, dict] = {}
    ended = {"search": threading.Event(), "answer": threading.Event()}

    def hear(name: str, event: Event) -> None:
        heard.append((name, event["kind"]))
        if event["kind"] in ("result", "error", "stopped"):
            results[name] = dict(event)
            ended[name].set()
        elif (name, event["kind"]) == ("search", "progress") and heard.count(heard[-1]) == 1:
            jobs.submit(partial(answer, material, CHIPS), partial(hear, "answer"), brief=True)

    search = State(prompt=TEXT, answer="Cancer", method=method)
    jobs.submit(partial(find, material, search), partial(hear, "search"))
    assert all(one.wait(300) for one in ended.values())
    jobs.close()
    return heard, results["search"]["value"], results["answer"]["value"]


def alone(material: Material) -> dict:
    """The answer, with no prompt before."""
    vars(material).pop("before", None)
    return answer(material, CHIPS, deaf())


CHIPS = State(prompt=TEXT, answer="Cancer", chips=(Chip(name=RELATION, set=RELATION),))


LONG = ("exact", "ig", "ig-16", "slimming", "hard-concrete", "direct")


@pytest.mark.parametrize("method", LOCATORS)
def test_a_search_gives_way_to_an_answer(material: Material, model, method: str):
    """The answer comes first, and neither changes the other.

    Methods of a single pass give way between the layers of the exact effects.
    """
    heard, found, answered = search_and_ask(material, method)
    end = "part" if method in LONG else "result"
    assert heard.index(("answer", "result")) < heard.index(("search", end))
    assert answered == alone(material)
    plain = find(material, State(prompt=TEXT, answer="Cancer", method=method), deaf())
    assert found["neurons"] == plain["neurons"]
    assert found["csv"] == plain["csv"]


def test_an_answer_waits_while_weights_are_cast_for_a_search():
    """It would be that of the wider weights: not the model's own."""
    material = Material(broca.LanguageModel.from_pretrained("atlas", dtype="bfloat16"))
    index = NeuronIndex(material.model.identity, ("hidden",))
    material.sets[RELATION] = uniform_random(index, 200, 0)
    heard, _, answered = search_and_ask(material, "direct")
    assert heard.index(("search", "result")) < heard.index(("answer", "result"))
    assert answered == alone(material)


def test_long_methods_tell_their_progress_and_their_time(material: Material):
    told: list[dict] = []
    job = Job(lambda job: None, lambda event: told.append(dict(event)))
    find(material, State(prompt=TEXT, answer="Cancer", method="exact"), job)
    steps = [
        one for one in told if one["kind"] == "progress" and one["what"].startswith("Attributing")
    ]
    assert len(steps) > 2
    assert any(one["left"] is not None for one in steps)
    assert [one["done"] for one in steps] == sorted(one["done"] for one in steps)


@pytest.mark.parametrize("answer", ["Cancer", "Canis Minor"])
def test_the_map_is_a_finite_difference(model, answer: str):
    """Zeroing a layer's neurons at a token by a thousandth costs a thousandth of the cell."""
    target = chosen_answer(model, TEXT, answer)
    grid = gradient_map(model, TEXT, target, deaf())
    ids = [*model.encode([TEXT])[0], *target[:-1]]
    assert grid.shape == (model.n_layers, len(ids))

    def log_p(layer: int, place: int, factor: float) -> float:
        def scaled(values):
            new = values.clone()
            new[:, place] *= factor
            return new

        with model.touch("hidden", layer, scaled):
            logits = model.logits(model.pad([ids]), logits_to_keep=len(target))[0].double()
        at = logits.log_softmax(-1)
        return float(sum(at[i, token] for i, token in enumerate(target)))

    small = 0.01
    for layer, place in [(0, 3), (1, len(ids) - 1), (3, 5), (model.n_layers - 1, len(ids) - 1)]:
        change = (log_p(layer, place, 1 + small) - log_p(layer, place, 1 - small)) / (2 * small)
        assert grid[layer, place] == pytest.approx(change, abs=2e-3, rel=0.05)


def test_every_method_that_is_offered_runs(material: Material):
    offered = [name for name, _ in methods(material)]
    assert set(offered) == set(LOCATORS)
    for name in ("direct", "activation", "expertise", "random"):
        result = find(material, State(prompt=TEXT, answer="Cancer", method=name), deaf())
        assert len(result["neurons"]) == LISTED
        assert np.isfinite([one["effect"] for one in result["neurons"]]).all()


@pytest.mark.parametrize("method", ["exact", "ig", "slimming", "direct"])
def test_a_search_is_stopped_inside(material: Material, model, method: str):
    """At its first sign of progress nobody waits any more; the model is as before."""
    before = model.probabilities([TEXT])

    def hear(event):
        if event["kind"] == "progress":
            job.stop()

    job = Job(lambda job: None, hear)
    with pytest.raises(Stopped):
        find(material, State(prompt=TEXT, answer="Cancer", method=method), job)
    assert (model.probabilities([TEXT]) == before).all()


def test_a_closed_stream_stops_a_search(client_of_module: httpx.Client, server):
    start = time.monotonic()
    asked = {**ASKED, "method": "hard-concrete"}
    with client_of_module.stream("POST", "/api/find", json=asked) as response:
        for line in response.iter_lines():
            if line == "event: progress":
                break
    wait_for(lambda: server.jobs.length == 0)
    assert time.monotonic() - start < 120


def test_the_graph_has_the_viewers_fields(found, model):
    """The required fields of the viewer's public schema, and links between nodes that exist."""
    graph = found[-1][1]["value"]["graph"]
    assert set(graph) == {"metadata", "qParams", "nodes", "links"}
    assert {"slug", "scan", "prompt_tokens", "prompt"} <= set(graph["metadata"])
    needed = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"}
    names = {node["node_id"] for node in graph["nodes"]}
    assert len(names) == len(graph["nodes"])
    for node in graph["nodes"]:
        assert needed <= set(node)
        assert isinstance(node["feature"], int)
        assert 0 <= node["ctx_idx"] < len(graph["metadata"]["prompt_tokens"])
    assert len(graph["links"]) == LISTED
    for link in graph["links"]:
        assert {link["source"], link["target"]} <= names
    first = next(n for n in graph["nodes"] if n["feature_type"] == "cross layer transcoder")
    layer, index = map(int, first["node_id"].split("_")[:2])
    assert first["feature"] == pair(layer, index)
    (logit,) = [node for node in graph["nodes"] if node["is_target_logit"]]
    assert 0 < logit["token_prob"] <= 1


def test_pairs_are_distinct():
    assert len({pair(a, b) for a in range(40) for b in range(40)}) == 1600


def test_methods_that_compare_need_another_prompt(model, material: Material):
    """They contrasted a prompt with itself, or broke off with words of the library."""
    asked = material.prompts[0]
    alone = Material(model, prompts=[asked])
    state = State(prompt=asked.text, answer="Cancer", method="expertise")
    with pytest.raises(PlayError, match="average precision compares the prompt with others"):
        find(alone, state, deaf())
    other = State(prompt=TEXT + " ", answer="Cancer", method="mean-difference")
    assert len(find(alone, other, deaf())["neurons"]) == LISTED


def test_what_cannot_be_found(client_of_module: httpx.Client):
    for content, words in (
        ({"prompt": ""}, "there is no prompt"),
        ({**ASKED, "method": "magic"}, "no locator 'magic'"),
        ({**ASKED, "answer": "word " * 190, "prompt": "word " * 1550}, "A prompt has"),
    ):
        kind, data = events(client_of_module.post("/api/find", json=content))[-1]
        assert kind == "error"
        assert words in data["text"]
