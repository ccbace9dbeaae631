"""What is asked for without changing anything: the page, facts, a neuron."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

import broca
from broca.errors import PlayError
from broca.facts.seeding import stable_random
from broca.neurons import NeuronSet
from broca.play import Material
from broca.play.facts import groups, list_facts
from broca.play.finding import methods
from broca.play.looking import served
from broca.play.page import page_html
from broca.play.state import FactsAsked
from broca.prompts import put_own, render_fact_prompts
from broca.scores import QueryScoreConfig, QuerySets, Ranking
from play.plain_play import RELATION, events, refused, result


def test_the_page(client: httpx.Client, material: Material):
    response = client.get("/")
    assert response.status_code == 200
    page = response.text
    assert "http://" not in page.replace("http://www.w3.org", "")  # nothing comes from elsewhere
    assert "https://" not in page
    assert RELATION in page
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert f'<script nonce="{nonce}">' in page
    assert (
        nonce
        != client.get("/")
        .headers["content-security-policy"]
        .partition("'nonce-")[2]
        .partition("'")[0]
    )
    assert response.headers["referrer-policy"] == "no-referrer"


def test_text_of_files_cannot_leave_the_script(material: Material, model, neurons: NeuronSet):
    name = "</script><script>alert(1)</script>"
    page = page_html(Material(model, sets={name: neurons}), nonce="n")
    assert name not in page
    assert page.count("<script") == 2


def test_facts(client: httpx.Client):
    found = client.post(
        "/api/facts", json={"group": RELATION, "letters": "iota", "form": "question"}
    ).json()
    assert found
    assert all("iota" in one["label"].casefold() for one in found)
    stored = client.post("/api/facts", json={"group": f"run: {RELATION}"}).json()
    assert stored[0]["prompt"].endswith("? Answer:")
    few = client.post(
        "/api/facts", json={"group": RELATION, "letters": "", "form": "few-shot"}
    ).json()
    assert len(few) == 50
    assert len(few[0]["shots"]) == 4
    refused(client.post("/api/facts", json={"group": "nothing"}), "no such facts")


def test_facts_are_asked_as_studies_ask_them(client: httpx.Client, material: Material):
    relation = material.relations[RELATION]
    for form in ("question", "cloze", "few-shot"):
        expected = {p.answers[0] + p.text for p in render_fact_prompts(relation, form=form)}
        listed = client.post("/api/facts", json={"group": RELATION, "form": form}).json()
        for one in listed:
            text = put_own(one["prompt"], one["form"], one["shots"])
            assert one["answer"] + text in expected


def test_neuron(client: httpx.Client, neurons: NeuronSet):
    first = str(next(iter(neurons)))
    found = result(client, "neuron", {"neuron": first})
    assert found["n_prompts"] == 25
    assert len(found["tokens"]["raises"]) == 12
    values = [abs(one["value"]) for one in found["firings"]]
    assert values == sorted(values, reverse=True)
    assert (RELATION, 1) in [(one["name"], one["rank"]) for one in found["served"]]
    assert "<svg" in found["figures"][0]["svg"]
    plain = result(client, "neuron", {"neuron": "down:1:3"})
    assert plain["tokens"] is None
    kind, data = events(client.post("/api/neuron", json={"neuron": "hidden:99:0"}))[-1]
    assert kind == "error"
    assert "no layer 99" in data["text"]


# ---- what the server was started with


def test_the_first_page_renders_no_prompt(model, monkeypatch):
    """It was drawn only after all facts had been put into words, for a flag nobody read."""

    def renders(*arguments, **options):
        raise AssertionError("a page needs no prompt")

    monkeypatch.setattr("broca.play.material.render_fact_prompts", renders)
    material = Material.load(model)
    page_html(material, nonce="n")
    assert "expertise" in dict(methods(material))
    assert "expertise" not in dict(methods(Material(model)))


def test_reference_prompts_are_a_sample_of_all(model):
    """Those that rendering every fact and then drawing gives, of which only the drawn are made."""
    relations = broca.load_relations("atlas")
    every = render_fact_prompts(relations)
    assert len(every) > 1000
    expected = stable_random(0, "play").sample(every, 64)
    assert Material(model, relations=relations).reference == expected


def test_questions_are_not_called_those_of_a_run(model, tmp_path: Path):
    path = tmp_path / "questions.jsonl"
    row = '{"id": "a", "question": "Which?", "options": ["cat", "dog"], "answer": "cat", '
    path.write_text(row + '"field": "pets"}\n', encoding="utf-8")
    material = Material.load(model, facts=None, questions=str(path))
    assert list(groups(material)) == [("questions: pets", 1)]
    (listed,) = list_facts(material, FactsAsked(group="questions: pets"))
    assert "Which?" in listed["prompt"]
    assert listed["prompt"] == material.reference[0].text
    with pytest.raises(PlayError, match="no such facts"):
        list_facts(material, FactsAsked(group="pets"))


def ranking(*neurons: int) -> Ranking:
    return Ranking(np.array(neurons, np.int64), np.arange(len(neurons), 0, -1.0))


def test_query_sets_of_every_method_are_offered(model):
    rankings = {
        "na-ica": {"q/0": ranking(3, 4), "q1": ranking()},
        "activation": {"q/0": ranking(5), "q1": ranking(6, 7, 8)},
    }
    sets = QuerySets(model.identity, "hidden", QueryScoreConfig(), 0, rankings, ranking())
    material = Material(model, queries={"queries": sets})
    assert list(material.names()) == [
        ("queries/q/0", 2, "na-ica"),
        ("queries/q/0/activation", 1, "activation"),
        ("queries/q1/activation", 3, "activation"),
    ]
    for name, size, method in material.names():
        found = material.find_set(name)
        assert (found.name, len(found), found.method) == (name, size, method)
    for name in ("queries/q2", "queries/q/0/magic", "queries/", "other/q1", "queries"):
        with pytest.raises(PlayError, match="no such set"):
            material.find_set(name)


def test_a_set_may_come_while_others_are_listed(model, neurons: NeuronSet, tmp_path: Path):
    """A save in one thread once broke off whoever went through the sets in another."""
    material = Material(model, sets={"a": neurons.top(3), "b": neurons.top(4)}, out=tmp_path)
    names = material.names()
    first = next(names)
    material.keep(neurons.top(5))
    assert [first, *names] == [("a", 3, neurons.method), ("b", 4, neurons.method)]
    asked = next(iter(neurons))
    held = served(material, asked)
    assert {one.name for one in held} == {"a", "b", f"made/{neurons.name}"}
