"""What is refused, in a sentence while the server lives on; what is refused in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
import pytest

from broca.cli import run_cli
from broca.errors import NeuronError, PlayError
from broca.neurons import NeuronSet
from broca.play import Address, Material, Serving
from broca.play.guard import MOST_BYTES, TOKEN_HEADER, Guard, Rules
from broca.play.server import bind
from broca.play.state import LONGEST_TEXT, MOST_NEURONS
from play.plain_play import ASKED, OFF, events, refused, result
from tiny import tiny_model


def many(count: int, layer: int = 0) -> list[str]:
    return [f"hidden:{layer}:{i}" for i in range(count)]


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
        (
            {"prompt": "a", "chips": [{"name": "n", "neurons": many(MOST_NEURONS + 1)}]},
            "chips.0.neurons",
        ),
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
    refused(client.post("/api/answer", content=b'{"prompt": "\xff"}', headers=text), "no UTF-8")
    spelt = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/api/code", content=b'{"prompt": "a"}', headers=spelt).status_code == 200
    refused(
        client.post("/api/answer", content=b" " * (MOST_BYTES + 1), headers=text), "at most", 413
    )

    def chunks():
        for _ in range(20):
            yield b" " * (MOST_BYTES // 8)

    refused(client.post("/api/code", content=chunks(), headers=text), "too long")
    refused(client.get("/api/answer"), "no such page", 405)
    refused(client.get("/../../etc/passwd"), "no such page", 404)


def test_as_many_neurons_as_fit_into_a_request(client: httpx.Client):
    """Some 55,000 that are typed; sets that the server has are names, whatever their size."""

    def posted(n_chips: int) -> httpx.Response:
        chips = [{"name": str(n), "neurons": many(18_000, 10 + n)} for n in range(n_chips)]
        return client.post("/api/code", json={"prompt": "a", "chips": chips})

    refused(posted(3), "no layer 10")  # read, and more than this model has
    refused(posted(4), "at most", 413)


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


def test_a_name_is_one_in_whatever_letters(material: Material):
    """Browsers send small ones: a server called by capitals refused every page."""
    address = Address("LocalHost", 0)
    with Serving(material, address) as serving, httpx.Client(trust_env=False) as client:
        port = serving.url.rstrip("/").rpartition(":")[2]
        for name in ("localhost", "LOCALHOST", "127.0.0.1"):
            headers = {"host": f"{name}:{port}"}
            assert client.get(f"http://127.0.0.1:{port}/", headers=headers).status_code == 200
        for name in ("localhost.", "::1", "localhost.evil.example", ""):
            refused(
                client.get(f"http://127.0.0.1:{port}/", headers={"host": name}), "not called", 403
            )


@pytest.mark.parametrize("length", ["\u00b2", "-1", "1e3"])
def test_a_length_that_is_no_number(length: str):
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", length.encode("latin-1")),
        ],
    }
    refusal = Guard(lambda *_: None, Rules())._refusal(scope)  # type: ignore[arg-type]
    assert refusal is not None
    assert refusal[0] == 413


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

    listening = bind(Address("127.0.0.1", 0))
    port = str(listening.getsockname()[1])
    assert run_cli(["play", "--port", port]) == 2
    assert "the port is taken" in capsys.readouterr().err
    listening.close()
    assert run_cli(["play", "--set", str(tmp_path / "no.json"), "--port", "0"]) == 2
    assert "no.json" in capsys.readouterr().err
    assert run_cli(["play", "--run", str(tmp_path), "--port", "0"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("packages", [("starlette",), ("starlette", "uvicorn")])
def test_a_missing_extra_is_told(packages: tuple[str, ...], monkeypatch, capsys):
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)  # as if it was not installed
    assert run_cli(["play", "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert f"{' and '.join(packages)} not installed" in told
    assert 'pip install "broca[play]"' in told
    assert "Traceback" not in told
