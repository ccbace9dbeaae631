"""What is taken away from the page: a script and a command that are run, sets that are saved."""

from __future__ import annotations

import csv
import io
import json
import shlex
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

import broca
from broca.cli import run_cli
from broca.errors import BrocaError, PlayError
from broca.neurons import Neuron, NeuronIndex, NeuronSet, uniform_random
from broca.play import Material, Serving
from broca.play.editing import answer
from broca.play.jobs import Job
from broca.play.keeping import LONGEST_WORD, code, joined_set
from broca.play.script import python_code
from broca.play.state import Chip, SetAsked, State
from broca.store import find_damage
from play.plain_play import ASKED, OFF, PROMPT, RELATION, lives_on, refused, result

CHIPS = [
    OFF,
    {"name": "b", "neurons": ["hidden:0:7"], "change": "scale", "factor": 2.5},
    {"name": "c", "neurons": ["hidden:2:40", "up:1:1"], "change": "mean"},
]


def shown(material: Material, state: State) -> dict[str, Any]:
    """What the page shows of a state."""
    return answer(material, state, Job(lambda job: None, lambda event: None))


def ran(script: str, capsys) -> dict[str, Any]:
    """The names that a copied script leaves behind, and what it printed as `out`."""
    names: dict[str, Any] = {}
    capsys.readouterr()
    exec(compile(script, "copied", "exec"), names)
    return {**names, "out": capsys.readouterr().out}


def told(command: str, capsys) -> str:
    """What a copied command prints."""
    words = shlex.split(command)
    assert words[0] == "broca"
    capsys.readouterr()
    assert run_cli(words[1:]) == 0
    return capsys.readouterr().out


def same_numbers(names: dict[str, Any], page: dict[str, Any], tolerance: float = 1e-4) -> None:
    """A script's numbers are the page's."""
    found, tokenizer = names["found"], names["model"].tokenizer
    rows = {"untouched": page["clean"]}
    if page["edited"]:
        rows |= {"edited": page["edited"]}
        rows |= {f"matched {seed}": row for seed, row in enumerate(page["draws"])}
    assert set(found) == set(rows)
    for name, row in rows.items():
        _, log_p, rank = found[name]
        assert log_p == pytest.approx(row["log_p"], abs=tolerance)
        assert rank == row["rank"]
    tokens = {tokenizer.decode([i]): i for i in range(len(found["untouched"][0]))}
    for row in page["compared"][:5]:
        at = tokens[row["token"]]
        assert float(found["untouched"][0][at]) == pytest.approx(row["clean"], abs=tolerance)
        assert float(found["edited"][0][at]) == pytest.approx(row["edited"], abs=tolerance)
        for seed, p in enumerate(row["draws"]):
            assert float(found[f"matched {seed}"][0][at]) == pytest.approx(p, abs=tolerance)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"answer": "", "positions": "last"},
        {"answer": "Canis Minor"},
        {"answer": "Canis Minor", "positions": "last"},
        {"chips": [], "answer": "Leo"},
    ],
)
def test_code_is_what_the_page_shows(client: httpx.Client, changes: dict[str, Any], capsys):
    """The copied script, run, gives the page's probabilities, log P and ranks."""
    state = {**ASKED, "chips": CHIPS, **changes}
    page = result(client, "answer", state)
    names = ran(client.post("/api/code", json=state).json()["python"], capsys)
    same_numbers(names, page)
    p = f"P {float(torch.tensor(page['clean']['log_p']).exp()):.4f}"
    assert names["out"].startswith(f"untouched {p}")


def test_code_leaves_the_asked_prompt_out_of_means(material: Material, capsys):
    """And a set without neurons changes nothing, as on the page."""
    asked = material.reference[3].text
    empty = NeuronSet.of([], material.model.identity, name="empty")
    own = Material(material.model, sets={"empty": empty}, prompts=material.prompts)
    chips = (Chip.model_validate(CHIPS[2]), Chip(name="e", set="empty"))
    state = State(prompt=asked, chips=chips)
    page = shown(own, state)
    assert page["mean_of"] == len(own.reference) - 1
    names = ran(python_code(own, state), capsys)
    assert len(names["others"]) == page["mean_of"]
    same_numbers(names, page)
    alone = Material(material.model, prompts=[material.reference[3]])
    with pytest.raises(PlayError, match="this prompt is the only one"):
        code(alone, State(prompt=asked, chips=chips[:1]))


def test_code_and_command_load_the_weights_as_they_were(capsys):
    """The page's numbers in half precision are not those of the file's own."""
    material = Material(broca.LanguageModel.from_pretrained("atlas", dtype="bfloat16"))
    neurons = uniform_random(NeuronIndex(material.model.identity, ("hidden",)), 200, 0)
    names = tuple(str(neuron) for neuron in neurons)
    state = State(prompt=f"{PROMPT}? Answer:", chips=(Chip(name="x", neurons=names),), tokens=1)
    page = shown(material, state)
    kept = code(material, state)
    script = ran(kept["python"], capsys)
    assert script["model"].dtype == torch.bfloat16
    same_numbers(script, page, 0.03)  # rows of one batch are rounded otherwise than one alone
    out = told(kept["command"], capsys)
    (token, p), *_ = page["clean"]["said"][0]["instead"]
    line = next(line for line in out.splitlines() if line.strip().startswith("untouched"))
    said = float(line.partition(f"{token!r} ")[2].split()[0])
    assert said == pytest.approx(p, abs=0.003)
    whole = shown(Material(broca.LanguageModel.from_pretrained("atlas")), state)
    assert abs(whole["clean"]["said"][0]["p"] - p) > 0


def test_the_command_runs(client: httpx.Client, capsys):
    """Its numbers are the page's, also where more than six digits of a factor matter."""
    factor = -1234567.25 / 10_000
    chips = [
        OFF,
        {"name": "b", "neurons": ["hidden:0:7", "hidden:0:8"], "change": "scale", "factor": factor},
    ]
    state = {**ASKED, "chips": chips, "positions": "last", "tokens": 3}
    kept = client.post("/api/code", json=state).json()
    words = shlex.split(kept["command"])
    assert float(words[words.index("--factor") + 1]) == factor
    out = told(kept["command"], capsys)
    page = result(client, "answer", state)
    edited = next(line for line in out.splitlines() if "hidden:0:7" in line)
    for token, p in page["edited"]["said"][0]["instead"][:3]:
        assert f"{token!r} {p:.3f}" in edited


def test_a_prompt_may_begin_with_a_hyphen(material: Material, capsys):
    shots = ("-a star is Leo", "--b is Leo")
    for asked in (
        State(prompt="--model is", tokens=1),
        State(prompt="-1 is", form="few-shot", shots=shots),
    ):
        kept = code(material, asked)
        assert not kept["missing"]
        page = shown(material, asked)
        token, p = page["clean"]["said"][0]["instead"][0]
        assert f"{token!r} {p:.3f}" in told(kept["command"], capsys)


def test_what_the_command_cannot_say_is_told(material: Material):
    def missing(**state: Any) -> str:
        return " ".join(code(material, State(prompt="a", **state))["missing"])

    assert missing() == ""
    assert missing(answer=" ") == ""
    assert "NUL" in missing(form="\0 {wording}")
    assert "chosen answer" in missing(answer="Leo")
    off = Chip.model_validate(OFF)
    assert missing(chips=(off,)) == (
        "Matched random neurons are on the page and in the Python code only."
    )
    assert "done with c" in missing(chips=(off, Chip.model_validate(CHIPS[2])))
    index = NeuronIndex(material.model.identity, material.model.sites)
    neurons = uniform_random(index, len(index), 0, name="many")
    assert len(",".join(map(str, neurons))) > LONGEST_WORD
    own = Material(material.model, sets={"many": neurons})
    sentences = code(own, State(prompt="a", chips=(Chip(name="many", set="many"),)))["missing"]
    assert "more neurons than a shell takes" in " ".join(sentences)


# ---- sets


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


def test_a_saved_set_says_what_it_was_made_of(client: httpx.Client, neurons: NeuronSet):
    """Method, prompt and answer of what was found, the name of a file, what a set here was."""
    origin = {"method": "ig", "prompt": f"{PROMPT}? Answer:", "answer": " Cancer"}
    chips = [
        OFF,
        {"name": "first 2", "neurons": ["hidden:0:1", "hidden:0:2"], "origin": origin},
        {"name": "f", "neurons": ["hidden:1:1"], "origin": {"file": "f.json", "method": "other"}},
        {"name": "typed", "neurons": ["hidden:2:1"]},
    ]
    made = client.post("/api/save", json={"name": "of many", "chips": chips}).json()
    saved = NeuronSet.load(made["path"])
    assert saved.method == "play"
    own = {"method": neurons.method, "settings": neurons.settings, "data_hash": neurons.data_hash}
    assert saved.settings["made_of"] == json.loads(
        json.dumps(
            [
                {"name": RELATION, "neurons": 600, **own},
                {"name": "first 2", "neurons": 2, **origin},
                {"name": "f", "neurons": 1, "method": "other", "file": "f.json"},
                {"name": "typed", "neurons": 1, "method": "by hand"},
            ]
        )
    )
    assert result(client, "answer", {**ASKED, "chips": chips})["neurons"] == 604
    wrong = [{**OFF, "origin": {"path": "x"}}]
    refused(client.post("/api/save", json={"name": "n", "chips": wrong}), "origin.path")


def test_a_saved_set_is_no_test_of_the_prompt_it_was_found_on(client: httpx.Client):
    """Named as a set of the server, its neurons once were as if chosen for nothing."""
    origin = {"method": "ig", "prompt": f"{PROMPT}? Answer:", "answer": " Cancer"}
    found = {"name": "f", "neurons": ["hidden:0:1", "hidden:0:2"], "origin": origin}

    def saved(name: str, *chips: dict[str, Any]) -> dict[str, Any]:
        made = client.post("/api/save", json={"name": name, "chips": chips}).json()
        return {"name": name, "set": made["name"]}

    once = saved("once", found)
    twice = saved("twice", once, {"name": "t", "neurons": ["hidden:3:1"]})
    chips = [found, once, twice, OFF, {**once, "name": "n", "change": "none"}]
    assert result(client, "answer", {**ASKED, "chips": chips})["circular"] == ["f", "once", "twice"]
    assert result(client, "answer", {**ASKED, "form": "cloze", "chips": chips})["circular"] == []


def test_a_set_alone_stays_what_it_was(material: Material, neurons: NeuronSet):
    alone = joined_set(material, SetAsked(name="n", chips=(Chip.model_validate(OFF),)))
    assert (alone.method, alone.settings) == (neurons.method, neurons.settings)


def test_of_several_saves_of_one_name_one_is_written(
    model, neurons: NeuronSet, tmp_path: Path, monkeypatch
):
    """Through one server and through two; none takes what another has written."""
    plain = NeuronSet.save

    def slow(self: NeuronSet, path: str | Path) -> Path:
        time.sleep(0.05)
        return plain(self, path)

    monkeypatch.setattr(NeuronSet, "save", slow)
    servers = [Material(model, out=tmp_path), Material(model, out=tmp_path)]
    written: list[int] = []
    refusals: list[BrocaError] = []
    go = threading.Barrier(8)

    def save(number: int) -> None:
        go.wait(60)
        own = neurons.top(number + 1)
        try:
            servers[number % 2].keep(own)
            written.append(number + 1)
        except PlayError as error:
            refusals.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(written) == 1
    assert len(refusals) == 7
    (path,) = tmp_path.iterdir()
    assert len(NeuronSet.load(path)) == written[0]


def test_saves_beside_readers(model, neurons: NeuronSet, tmp_path: Path):
    """Saved one after the other while other threads list sets and look for neurons."""
    material = Material(model, sets={"a": neurons.top(3)}, out=tmp_path)
    wrong: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                for name, size, _ in material.names():
                    assert len(material.find_set(name)) == size
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    own = NeuronSet.of([Neuron("hidden", 0, 1)], model.identity)
    for number in range(60):
        material.keep(NeuronSet.of(own, model.identity, name=f"s{number}"))
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(material.sets) == 61


def test_a_set_that_cannot_be_written(model, neurons: NeuronSet, tmp_path: Path, monkeypatch):
    """A file in the folder's place; a disk that is full while the set is written."""
    (tmp_path / "made").write_text("a file", encoding="utf-8")
    material = Material(model, sets={RELATION: neurons}, out=tmp_path / "made")
    content = {"name": "mine", "chips": [OFF]}
    with (
        Serving(material) as serving,
        httpx.Client(base_url=serving.url, timeout=300, trust_env=False) as client,
    ):
        refused(client.post("/api/save", json=content), "Cannot write a neuron set")
        lives_on(client)
        material.out = tmp_path / "other"
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
            refused(client.post("/api/save", json=content), "full")
        assert client.post("/api/save", json=content).status_code == 200  # the name is free again
        assert len(NeuronSet.load(tmp_path / "other" / "mine.json")) == 600


def test_sets_are_there_when_the_server_starts_again(model, neurons: NeuronSet, tmp_path: Path):
    """Also where the folder is there and empty: that was taken for a run, and refused."""
    for kept in (tmp_path / "none yet", tmp_path):
        assert not Material.load(model, facts=None, out=kept).sets
    name = Material.load(model, facts=None, out=tmp_path).keep(neurons)
    again = Material.load(model, facts=None, out=tmp_path)
    assert [(name, 600)] == [(one, size) for one, size, _ in again.names()]


# ---- tables


def test_an_answer_says_what_it_is_of(client: httpx.Client, material: Material, model):
    page = result(client, "answer", {**ASKED, "chips": CHIPS, "positions": "last"})
    assert page["mean_of"] == 24  # of 25: the asked one is among them
    assert page["about"] == {
        "model": "atlas",
        "weights": model.identity.fingerprint,
        "dtype": "float32",
        "prompt": f"{PROMPT}? Answer:",
        "changes": f"{RELATION}: switched off; b: times 2.5; c: at its mean",
        "positions": "last",
        "mean over prompts": "24",
    }
    clean = result(client, "answer", ASKED)
    assert clean["mean_of"] is None
    assert set(clean["about"]) == {"model", "weights", "dtype", "prompt"}


def test_found_neurons_say_how_and_for_what(client: httpx.Client, model):
    pandas = pytest.importorskip("pandas")
    found = result(client, "find", {**ASKED, "method": "gradient-activation"})
    table = pandas.read_csv(io.StringIO(found["csv"]))
    names = ["neuron", "layer", "attribution", "loss of log P"]
    assert list(table) == [*names, "method", "prompt", "answer", "model", "weights"]
    assert len(table) == len(found["neurons"])
    for name, value in {
        "method": "gradient-activation",
        "prompt": f"{PROMPT}? Answer:",
        "answer": found["target"],
        "model": "atlas",
        "weights": model.identity.fingerprint,
    }.items():
        assert set(table[name].astype(str)) == {value}
    first = next(csv.DictReader(io.StringIO(found["csv"])))
    assert float(first["attribution"]) == pytest.approx(found["neurons"][0]["value"])


def test_found_neurons_hold_no_formula(client: httpx.Client):
    """A prompt that begins like one was computed by a spreadsheet."""
    asked = {"prompt": '=HYPERLINK("x")', "answer": "-1", "method": "activation"}
    table = csv.DictReader(io.StringIO(result(client, "find", asked)["csv"]))
    first = next(table)
    assert first["prompt"] == '\'=HYPERLINK("x")'
    assert not first["answer"].startswith("-")
    assert float(first["attribution"])
