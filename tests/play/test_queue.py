"""One model for several pages: the queue, what goes before what, what ends without ending it."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest
import torch

import broca
from broca.play import Material, Serving
from broca.play.jobs import Event, Job, Jobs
from broca.play.state import refusal
from play.plain_play import ASKED, OFF, RELATION, events, lives_on, refused, result, wait_for


@dataclass
class Held:
    """A model that is held.

    Attributes:
        began: Set when it has been taken.
        go: Lets it go on.
    """

    began: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def slow(monkeypatch) -> Held:
    """Answers hold the model until it is let go."""
    from broca.play import editing

    held_back = Held()
    plain = editing.answer_rows

    def held(*arguments, between, **options):
        held_back.began.set()
        while not held_back.go.is_set():
            between(0)
            time.sleep(0.01)
        return plain(*arguments, between=between, **options)

    monkeypatch.setattr(editing, "answer_rows", held)
    return held_back


def test_the_queue_is_told_and_can_be_left(client: httpx.Client, server: Serving, slow: Held):
    with client.stream("POST", "/api/answer", json=ASKED) as first:
        assert slow.began.wait(60)
        with client.stream("POST", "/api/answer", json=ASKED) as second:
            lines = second.iter_lines()
            assert next(lines) == "event: queued"
            assert json.loads(next(lines).removeprefix("data: ")) == {"ahead": 1}
            assert client.get("/api/queue").json()["length"] == 2
            first.close()  # whoever asked first has left
            slow.go.set()
            rest = "\n".join(lines)
    assert "event: result" in rest
    wait_for(lambda: server.jobs.length == 0)


def test_answers_go_before_what_is_long():
    """And what waits is told its place whenever it changes, to 0 when it runs."""
    jobs, go, began = Jobs(n_threads=1), threading.Event(), threading.Event()
    places: dict[str, list[int]] = {name: [] for name in "abcd"}
    order: list[str] = []

    def hear(name: str, event: Event) -> None:
        if event["kind"] == "queued":
            places[name].append(event["ahead"])

    def hold(job: Job) -> None:
        began.set()
        assert go.wait(60)
        assert job.give_way() > 0

    def submit(name: str, *, brief: bool) -> None:
        jobs.submit(lambda job: order.append(name), partial(hear, name), brief=brief)

    jobs.submit(hold, lambda event: None)
    assert began.wait(60)
    for name in "abcd":
        submit(name, brief=name in "bc")
    assert jobs.length == 5
    go.set()
    wait_for(lambda: jobs.length == 0)
    jobs.close()
    assert order == ["b", "c", "a", "d"]
    assert places == {"a": [1, 2, 3, 2, 1, 0], "b": [1, 0], "c": [2, 1, 0], "d": [4, 3, 2, 1, 0]}


def test_a_full_queue_refuses(client: httpx.Client, server: Serving, slow: Held, monkeypatch):
    monkeypatch.setattr(server.jobs, "most", 1)
    with client.stream("POST", "/api/answer", json=ASKED):
        assert slow.began.wait(60)  # until then it is one of those that wait
        with client.stream("POST", "/api/answer", json=ASKED):
            wait_for(lambda: server.jobs.length == 2)
            refused(client.post("/api/answer", json=ASKED), "wait already")
            slow.go.set()
    wait_for(lambda: server.jobs.length == 0)


WORK = [
    ("answer", {**ASKED, "chips": [OFF]}),
    ("find", {**ASKED, "method": "gradient-activation"}),
    ("find", {**ASKED, "method": "ig"}),
    ("neuron", {"neuron": "hidden:1:3"}),
]


@contextmanager
def broken(model: broca.LanguageModel, stop: Callable[[], object]) -> Iterator[None]:
    """Something happens whenever a layer in the middle has computed."""
    hook = model.layers[2].register_forward_hook(lambda *_: stop() and None)
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize(("route", "content"), WORK)
def test_a_model_that_stops(client: httpx.Client, model, route: str, content, capsys):
    def stops() -> None:
        raise RuntimeError("CUDA error: <b>device</b> lost")

    before = result(client, "answer", ASKED)
    with broken(model, stops):
        kind, data = events(client.post(f"/api/{route}", json=content))[-1]
    assert kind == "error"
    assert data["text"] == "The model stopped: RuntimeError: CUDA error: <b>device</b> lost"
    assert "Traceback" in capsys.readouterr().err  # for who runs the server
    assert result(client, "answer", ASKED) == before


@pytest.mark.parametrize(("route", "content"), WORK)
def test_no_memory_is_a_sentence(client: httpx.Client, model, route: str, content, capsys):
    """By an allocation that no machine has room for."""
    with broken(model, lambda: torch.empty(1 << 50)):
        kind, data = events(client.post(f"/api/{route}", json=content))[-1]
    assert kind == "error"
    assert data["text"].startswith("The model stopped: there is not enough memory. Shorten")
    assert "allocate memory" in capsys.readouterr().err
    lives_on(client)


def test_other_words_for_no_memory():
    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to"), MemoryError()):
        assert "there is not enough memory" in refusal(error)


@pytest.fixture(scope="module")
def own_server() -> Iterator[tuple[broca.LanguageModel, httpx.Client]]:
    """A server whose model may be damaged."""
    model = broca.LanguageModel.from_pretrained("atlas")
    with (
        Serving(Material.load(model)) as serving,
        httpx.Client(base_url=serving.url, timeout=300, trust_env=False) as client,
    ):
        yield model, client


@pytest.mark.parametrize(("route", "content"), WORK)
def test_what_is_not_finite_is_a_sentence(own_server, route: str, content):
    model, client = own_server
    content = {key: value for key, value in content.items() if key != "chips"}
    weight = dict(model.module.named_parameters())["model.norm.weight"]
    whole = weight.detach().clone()
    with torch.no_grad():
        weight[3] = torch.nan
        kind, data = events(client.post(f"/api/{route}", json=content))[-1]
        weight.copy_(whole)
    assert kind == "error", data
    assert "not finite" in data["text"]
    assert "The model stopped" not in data["text"]
    lives_on(client)


@pytest.mark.parametrize(
    ("route", "place"),
    [
        ("facts", "broca.play.facts._of_fact"),
        ("code", "broca.play.script.asked_text"),
        ("set", "broca.play.routes.content_of"),
        ("save", "broca.play.material.Material.keep"),
    ],
)
def test_what_is_answered_at_once_and_fails(
    client: httpx.Client, route: str, place: str, monkeypatch, capsys
):
    """It was a bare "Internal Server Error"."""
    content = {
        "facts": {"group": RELATION},
        "code": ASKED,
        "set": {"name": "n", "chips": [OFF]},
        "save": {"name": "n", "chips": [OFF]},
    }[route]

    def fails(*arguments: object, **options: object) -> None:
        raise KeyError("what")

    with monkeypatch.context() as patch:
        patch.setattr(place, fails)
        response = client.post(f"/api/{route}", json=content)
    refused(response, "The server failed: KeyError: 'what'", 500)
    assert "Traceback" in capsys.readouterr().err
    lives_on(client)


def test_a_page_that_cannot_be_drawn_is_a_sentence(client: httpx.Client, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("broca.play.routes.page_html", lambda *_, **__: 1 / 0)
        refused(client.get("/"), "The server failed: ZeroDivisionError", 500)
    assert client.get("/").status_code == 200


def test_threads(model, monkeypatch):
    """The model's thread computes with as many as it was given, and no other thread does."""
    from broca.play import threads

    before = torch.get_num_threads()
    found: queue.Queue = queue.Queue()
    jobs = Jobs(n_threads=2)
    jobs.submit(lambda job: torch.get_num_threads(), found.put)
    assert found.get(timeout=60) == {"kind": "result", "value": 2}
    jobs.close()
    assert torch.get_num_threads() == before
    assert threads.suited(model) == 1
    assert threads._pass_seconds(model, before) > 0
    monkeypatch.setattr(threads, "LARGE", 1_000_000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(threads, "_pass_seconds", lambda model, n: 1 / n)
    assert threads.suited(model) == 7
    monkeypatch.setattr(threads, "_pass_seconds", lambda model, n: n)
    assert threads.suited(model) == 1


def test_a_server_prepares_before_anybody_asks(capsys):
    """The first answer does not wait for what is measured once; failing there ends nothing."""
    fresh = broca.LanguageModel.from_pretrained("atlas")
    with Serving(Material(fresh)) as serving:
        wait_for(lambda: "drive" in vars(fresh))
        assert serving.jobs.length == 0
    found: queue.Queue = queue.Queue()
    jobs = Jobs(n_threads=1, prepare=lambda: 1 / 0)
    jobs.submit(lambda job: 7, found.put)
    assert found.get(timeout=60) == {"kind": "result", "value": 7}
    jobs.close()
    assert "ZeroDivisionError" in capsys.readouterr().err
