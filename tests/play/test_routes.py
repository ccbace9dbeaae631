"""Every route: what it gives, and what it refuses in a sentence while the server lives on."""

from __future__ import annotations

import json
import queue
import threading
import time
from functools import partial
from pathlib import Path

import httpx
import pytest
import torch

import broca
from broca.errors import NeuronError, PlayError
from broca.neurons import NeuronSet
from broca.play import Address, Material, Serving
from broca.play.guard import MOST_BYTES, TOKEN_HEADER
from broca.play.jobs import Event, Job, Jobs
from broca.play.server import bind
from broca.play.state import LONGEST_TEXT
from broca.store import find_damage
from play.plain_play import ASKED, OFF, RELATION, events, result, wait_for
from tiny import tiny_model


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
    from broca.play.page import page_html

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
    from broca.prompts import put_own, render_fact_prompts

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
    assert found["served"][0]["name"] == RELATION
    assert found["served"][0]["rank"] == 1
    assert "<svg" in found["figures"][0]["svg"]
    plain = result(client, "neuron", {"neuron": "down:1:3"})
    assert plain["tokens"] is None
    kind, data = events(client.post("/api/neuron", json={"neuron": "hidden:99:0"}))[-1]
    assert kind == "error"
    assert "no layer 99" in data["text"]


def test_code_is_what_the_page_shows(client: httpx.Client, capsys):
    """The copied script, run, gives the page's probabilities."""
    chips = [
        OFF,
        {"name": "b", "neurons": ["hidden:0:7"], "change": "scale", "factor": 2.5},
        {"name": "c", "neurons": ["hidden:2:40", "up:1:1"], "change": "mean"},
    ]
    state = {**ASKED, "chips": chips}
    shown = result(client, "answer", state)
    code = client.post("/api/code", json=state).json()
    names: dict = {}
    exec(compile(code["python"], "copied", "exec"), names)
    capsys.readouterr()
    tokens = {names["model"].tokenizer.decode([i]): i for i in range(len(names["found"]["edited"]))}
    for row in shown["compared"][:5]:
        at = tokens[row["token"]]
        assert float(names["found"]["untouched"][at]) == pytest.approx(row["clean"], abs=1e-5)
        assert float(names["found"]["edited"][at]) == pytest.approx(row["edited"], abs=1e-5)
        for seed, p in enumerate(row["draws"]):
            assert float(names["found"][f"matched {seed}"][at]) == pytest.approx(p, abs=1e-5)
    assert any("cannot say" in line for line in code["missing"])


def test_the_command_runs(client: httpx.Client, capsys):
    import shlex

    from broca.cli import run_cli

    chips = [
        OFF,
        {"name": "b", "neurons": ["hidden:0:7", "hidden:0:8"], "change": "scale", "factor": 2.5},
    ]
    state = {**ASKED, "chips": chips, "positions": "last", "tokens": 3}
    code = client.post("/api/code", json=state).json()
    words = shlex.split(code["command"])
    assert words[0] == "broca"
    assert run_cli(words[1:]) == 0
    out = capsys.readouterr().out
    shown = result(client, "answer", state)
    edited = next(line for line in out.splitlines() if "hidden:0:7" in line)
    for token, p in shown["edited"]["said"][0]["instead"][:3]:
        assert f"{token!r} {p:.3f}" in edited


def test_sets_are_kept_as_ordinary_ones(client: httpx.Client, material: Material, run: Path):
    content = {"name": '../mine: "ours"', "chips": [OFF, {"name": "x", "neurons": ["down:0:1"]}]}
    made = client.post("/api/save", json=content).json()
    path = Path(made["path"])
    assert path.parent == run / "made"
    saved = NeuronSet.load(path)
    assert len(saved) == made["size"] == 601
    assert saved.name == content["name"]
    assert made["name"] in {name for name, _, _ in material.names()}
    again = result(client, "answer", {**ASKED, "chips": [{**OFF, "set": made["name"]}]})
    assert again["neurons"] == 601
    refused(client.post("/api/save", json=content), "already")
    assert not find_damage(run)
    down = client.post("/api/set", json=content).json()
    assert down["file"]["format"] == "broca.neuron-set"
    assert down["file"]["index"][-1] == 1
    names = {str(p.relative_to(run)) for p in run.rglob("*.json")}
    assert all(name.startswith(("sets/", "made/")) or "/" not in name for name in names)


# ---- refused


def refused(response: httpx.Response, words: str, status: int = 400) -> None:
    assert response.status_code == status, response.text
    assert words in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prompt": "x" * (LONGEST_TEXT + 1)}, "prompt: string should have at most"),
        ({"prompt": "a", "draws": 4}, "draws"),
        ({"prompt": "a", "draws": True}, "draws"),
        ({"prompt": "a", "tokens": 10_000}, "tokens"),
        ({"prompt": "a", "nonsense": 1}, "nonsense"),
        ({"prompt": "a", "chips": [{"name": "n"}]}, "names a set or neurons"),
        ({"prompt": "a", "chips": [{"name": "n", "neurons": ["hidden:x:1"]}]}, "is not a neuron"),
        (
            {"prompt": "a", "chips": [{"name": "n", "neurons": ["hidden:0:1", "hidden:0:1"]}]},
            "twice",
        ),
        ({"prompt": "a", "chips": [{"name": "n", "set": "s", "factor": 1e9}]}, "factor"),
        ({"prompt": "a", "chips": [{"name": str(i), "set": "s"} for i in range(33)]}, "chips"),
        ([], "the request"),
    ],
)
def test_what_is_no_state(client: httpx.Client, content, words: str):
    refused(client.post("/api/answer", json=content), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prompt": " "}, "there is no prompt"),
        ({"prompt": "a", "form": "qestion"}, "Did you mean 'question'"),
        ({"prompt": "a", "form": "chat"}, "chat template"),
        ({"prompt": "a", "form": "few-shot"}, "lines are shown"),
        ({"prompt": "word " * 1500}, "A prompt has"),
        ({"prompt": "a", "chips": [{"name": "n", "set": "../../etc/passwd"}]}, "no such set"),
        ({"prompt": "a", "chips": [{"name": "n", "neurons": ["hidden:0:99999"]}]}, "no neuron"),
        (
            {
                "prompt": "a",
                "chips": [{"name": "n", "neurons": [f"hidden:0:{i}" for i in range(400)]}],
            },
            "lie outside the set",
        ),
    ],
)
def test_what_cannot_be_asked(client: httpx.Client, content, words: str):
    kind, data = events(client.post("/api/answer", json={"tokens": 1, **content}))[-1]
    assert kind == "error", data
    assert words in data["text"]
    assert "Traceback" not in data["text"]
    assert result(client, "answer", {**ASKED, "tokens": 1})["clean"]["text"]  # it lives on


@pytest.mark.parametrize(
    "prompt",
    [
        "🦊 говорит 🦊",
        "\u202eabc\u202c e\u0301",
        "a\x00b\x1b[2J",
        "<|endoftext|><s></s>",
        "\u2028 a\r\nb",
    ],
)
def test_any_text_is_a_prompt(client: httpx.Client, prompt: str):
    found = result(client, "answer", {"prompt": prompt, "chips": [OFF], "tokens": 2})
    assert found["asked"] == prompt
    assert len(found["draws"]) == 5
    for row in (found["clean"], found["edited"], *found["draws"]):
        assert all(0 < one["p"] <= 1 for one in row["said"])


def test_half_a_letter_is_refused(client: httpx.Client):
    """A lone surrogate is no text; it could be neither tokenised nor sent back."""
    headers = {"content-type": "application/json"}
    for field in ("prompt", "answer"):
        body = json.dumps({"prompt": "a", field: "a\ud800"}).encode()
        refused(client.post("/api/answer", content=body, headers=headers), field)


def test_what_is_no_request(client: httpx.Client):
    text = {"content-type": "application/json"}
    refused(client.post("/api/answer", content=b"{", headers=text), "request")
    refused(client.post("/api/answer", content=b'{"a": NaN}', headers=text), "")
    refused(client.post("/api/answer", content=b"[" * 5000, headers=text), "")
    refused(client.post("/api/answer", data={"prompt": "a"}), "A request is JSON", 415)
    refused(
        client.post("/api/answer", content=b" " * (MOST_BYTES + 1), headers=text), "at most", 413
    )

    def chunks():
        for _ in range(20):
            yield b" " * (MOST_BYTES // 8)

    refused(client.post("/api/code", content=chunks(), headers=text), "too long")
    refused(client.get("/api/answer"), "no such page", 405)
    refused(client.get("/../../etc/passwd"), "no such page", 404)


def test_other_pages_may_not_ask(client: httpx.Client, server: Serving):
    refused(client.get("/", headers={"host": "evil.example"}), "not called", 403)
    refused(client.get("/", headers={"host": "127.0.0.1.evil.example:80"}), "not called", 403)
    other = {"origin": "http://evil.example"}
    refused(client.post("/api/answer", json=ASKED, headers=other), "another origin", 403)
    refused(client.get("/", headers={"origin": "null"}), "another origin", 403)
    own = {"origin": server.url.rstrip("/")}
    response = client.post("/api/code", json=ASKED, headers=own)
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]
    asked = {**other, "access-control-request-method": "POST"}
    assert client.options("/api/answer", headers=asked).status_code == 403


def test_a_token_is_asked_for_off_loopback(material: Material):
    assert Address.of("127.0.0.1", 1).token == ""
    address = Address.of("0.0.0.0", 0)
    assert len(address.token) >= 20
    assert address.token not in repr(address)
    with Serving(material, address) as serving, httpx.Client(trust_env=False) as client:
        base = serving.url.partition("?")[0]
        assert client.get(serving.url).status_code == 200
        refused(client.get(base), "token", 403)
        refused(client.get(f"{base}?token=x"), "token", 403)
        refused(client.post(f"{base}api/code", json=ASKED), "token", 403)
        headers = {TOKEN_HEADER: address.token}
        assert client.post(f"{base}api/code", json=ASKED, headers=headers).status_code == 200
        assert address.token in client.get(serving.url).text


# ---- the queue


@pytest.fixture
def slow(monkeypatch) -> threading.Event:
    """Holds the model until it is set."""
    from broca.play import editing

    go = threading.Event()
    plain = editing.answer_rows

    def held(*arguments, between, **options):
        while not go.is_set():
            between(0)
            time.sleep(0.01)
        return plain(*arguments, between=between, **options)

    monkeypatch.setattr(editing, "answer_rows", held)
    return go


def test_the_queue_is_told_and_can_be_left(client: httpx.Client, server: Serving, slow):
    with client.stream("POST", "/api/answer", json=ASKED) as first:
        wait_for(lambda: server.jobs.length == 1)
        with client.stream("POST", "/api/answer", json=ASKED) as second:
            lines = second.iter_lines()
            assert next(lines) == "event: queued"
            assert json.loads(next(lines).removeprefix("data: ")) == {"ahead": 1}
            assert client.get("/api/queue").json()["length"] == 2
            first.close()  # whoever asked first has left
            slow.set()
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


def test_a_full_queue_refuses(client: httpx.Client, server: Serving, slow, monkeypatch):
    monkeypatch.setattr(server.jobs, "most", 1)
    with client.stream("POST", "/api/answer", json=ASKED):
        wait_for(lambda: server.jobs.length == 1)
        with client.stream("POST", "/api/answer", json=ASKED):
            wait_for(lambda: server.jobs.length == 2)
            refused(client.post("/api/answer", json=ASKED), "wait already")
            slow.set()
    wait_for(lambda: server.jobs.length == 0)


def test_a_model_that_stops(client: httpx.Client, monkeypatch, capsys):
    from broca.play import editing

    def stops(*arguments, **options):
        raise RuntimeError("CUDA error: <b>device</b> lost")

    with monkeypatch.context() as patch:
        patch.setattr(editing, "answer_rows", stops)
        kind, data = events(client.post("/api/answer", json=ASKED))[-1]
    assert kind == "error"
    assert data["text"].startswith("The model stopped: RuntimeError: CUDA error")
    assert result(client, "answer", ASKED)["clean"]["text"] == "Cancer"


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


# ---- in the terminal


def test_a_port_that_is_taken():
    listening = bind(Address("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with pytest.raises(PlayError, match=rf"the port is taken \(127\.0\.0\.1:{port}\)\. Choose"):
        bind(Address("127.0.0.1", port))
    listening.close()
    with pytest.raises(PlayError, match="cannot listen there"):
        bind(Address("no.such.host.invalid", 0))


def test_material_that_cannot_be_used(model, neurons: NeuronSet, tmp_path: Path):
    other = NeuronSet.of([], tiny_model("llama").identity, name="other").save(tmp_path / "o.json")
    with pytest.raises(NeuronError, match="another shape"):
        Material.load(model, sets=[other])
    with pytest.raises(PlayError, match="no such neuron set"):
        Material.load(model, sets=[tmp_path / "missing.json"])
    one = neurons.save(tmp_path / "a" / "x.json")
    two = neurons.top(3).save(tmp_path / "b" / "x.json")
    with pytest.raises(PlayError, match="two sets have one name"):
        Material.load(model, sets=[one, two])
    bare = Material.load(model, sets=[one], facts=None)
    assert bare.out is None
    with pytest.raises(PlayError, match="no place to keep sets"):
        bare.keep(neurons)
    with pytest.raises(PlayError, match="there are none"):
        bare.means(neurons)


def test_the_command_refuses_in_words(tmp_path: Path, capsys):
    from broca.cli import run_cli

    listening = bind(Address("127.0.0.1", 0))
    port = str(listening.getsockname()[1])
    assert run_cli(["play", "--port", port]) == 2
    assert "the port is taken" in capsys.readouterr().err
    listening.close()
    assert run_cli(["play", "--set", str(tmp_path / "no.json"), "--port", "0"]) == 2
    assert "no.json" in capsys.readouterr().err
    assert run_cli(["play", "--run", str(tmp_path), "--port", "0"]) == 2
    assert "Traceback" not in capsys.readouterr().err
