"""Locators by command: `find relations --method`, `bench locators`, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broca.cli import run_cli
from broca.effects import ablate_each
from broca.locators import Located, locate
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.store import RunFolder
from planted import planted_world
from planted_files import write_planted_facts

Broca = Callable[..., tuple[int, str]]
RELATIONS = ("father", "ceo", "river")
PLANTED = (
    *("--set", 'studies=["locators.planted"]', "--set", "n_prompts=2", "--set", "form=question"),
    *("--set", "locators=random", "--set", "reference=random"),
)
SETTINGS = ("--set", "n_evaluation=10", "--set", "min_detection=4", "--sites", "hidden")


@pytest.fixture
def broca(capsys: pytest.CaptureFixture[str]) -> Broca:
    """Run a command; its exit code, and what it told on either stream."""

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run_cli([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, " ".join((out + err).split())

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model and its facts."""
    folder = tmp_path_factory.mktemp("place")
    world = planted_world()
    world.module.save_pretrained(folder / "model")
    world.tokenizer.save_pretrained(folder / "model")
    write_planted_facts(folder / "facts", RELATIONS)
    return folder


def source(place: Path) -> tuple[object, ...]:
    return ("--model", place / "model", "--facts", place / "facts" / "facts.jsonl")


@pytest.fixture
def quantised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is loaded says that it is quantised."""
    load = LanguageModel.from_pretrained

    def loaded(*arguments: object, **options: object) -> LanguageModel:
        model = load(*arguments, **options)  # type: ignore[arg-type]
        model.module.config.quantization_config = {"quant_method": "bitsandbytes"}
        return model

    monkeypatch.setattr(LanguageModel, "from_pretrained", loaded)


def test_relations_by_a_locator(
    broca: Broca, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set is the highest mean loss over detection prompts, measured one prompt at a time."""
    seen: list[Prompt] = []

    def spied(model: LanguageModel, prompts: list[Prompt], *rest: Any, **options: Any) -> Located:
        seen[:] = prompts
        return locate(model, prompts, *rest, **options)

    monkeypatch.setattr("broca.run.find.locate", spied)
    find = ("find", "relations", *source(place), *SETTINGS, "--top", 6, "--relation", "river")
    code, told = broca(*find, "--method", "exact", "--out", tmp_path / "exact")
    assert code == 0, told
    assert "exact from" in told
    neurons = NeuronSet.load(tmp_path / "exact" / "river.json")
    assert (len(neurons), neurons.method) == (6, "exact")
    model = planted_world().language_model()
    losses = [-ablate_each(model, [one], progress=False).values[0] for one in seen]
    mean = np.mean(losses, axis=0, dtype=np.float64)
    best = np.argsort(-mean.ravel(), kind="stable")[:6]
    assert {(n.layer, n.index) for n in neurons} == {divmod(int(b), mean.shape[1]) for b in best}
    np.testing.assert_allclose(neurons.scores, mean.ravel()[best], atol=1e-5)
    assert {one.relation for one in seen} == {"river"}
    code, told = broca(*find, "--method", "mean-difference", "--out", tmp_path / "other")
    assert code == 0, told
    other = NeuronSet.load(tmp_path / "other" / "river.json")
    assert set(other) == set(planted_world().planted["river"])
    assert other.method == "mean-difference"


def test_masks_of_a_relation_have_the_sets_size_as_budget(
    broca: Broca, place: Path, tmp_path: Path
) -> None:
    find = ("find", "relations", *source(place), *SETTINGS, "--top", 6, "--relation", "river")
    code, told = broca(*find, "--method", "slimming", "--out", tmp_path / "masks")
    assert code == 0, told
    neurons = NeuronSet.load(tmp_path / "masks" / "river.json")
    assert (len(neurons), neurons.settings["budget"], neurons.settings["shared"]) == (6, 6, True)
    chosen = neurons.settings["chosen_on"]
    assert chosen["prompts"] >= 4
    best = min(chosen["tried"], key=lambda one: one["lost"])
    assert neurons.settings["learning_rate"] == best["learning_rate"]


def test_the_bench_by_command(broca: Broca, place: Path, tmp_path: Path) -> None:
    """From a model and facts to a page; what is finished is not begun again."""
    out = tmp_path / "run"
    bench = ("bench", "locators", *source(place), "--out", out)
    settings = {
        "locators": "exact,ig,random",
        "relation_locators": "expertise,random",
        "form": "question",
        "n_resamples": 50,
        "known": 100,
        "relation_sizes": "2,6",
        "deleted": 0.01,
        **dict.fromkeys(("n_prompts", "n_injected", "n_planted", "n_others"), 2),
        **dict.fromkeys(("n_group", "n_judged"), 4),
    }
    bench += tuple(part for item in settings.items() for part in ("--set", f"{item[0]}={item[1]}"))
    code, told = broca(*bench)
    assert code == 0, told
    run = RunFolder.open(out)
    assert run.finished
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("Against the exact effect", "Planted neurons", "The neurons of a relation"):
        assert words in page
    assert 'fill="#000"' not in page  # which no dark page could show
    code, told = broca(*bench)
    assert (code, "is finished" in told) == (2, True)


def test_what_is_refused(broca: Broca, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "none"
    find = ("find", "relations", *source(place), *SETTINGS, "--out", out)
    for arguments, words in (
        ((*find, "--method", "magic"), "no locator 'magic'"),
        ((*find, "--method", "slimming", "--top", 10_000), "neurons"),
        (("bench", "locators", *source(place), "--set", "locators=magic"), "no locator 'magic'"),
        (("bench", "locators", *source(place), "--set", "mask_share=1.5"), "must be below 1"),
        (("bench", "locators", "--facts", tmp_path / "nothing.jsonl"), "nothing.jsonl"),
        (
            (
                *("bench", "locators", *source(place), "--out", tmp_path / "planted"),
                *("--set", "planted=9999", *PLANTED),
            ),
            "were to be planted",
        ),
    ):
        code, told = broca(*arguments)
        assert (code, words in told) == (2, True), told
        assert not list(out.glob("*.json"))


def test_a_quantised_model_is_refused_before_anything_is_judged(
    broca: Broca, place: Path, tmp_path: Path, quantised: None
) -> None:
    code, told = broca("bench", "locators", *source(place), "--out", tmp_path / "run")
    assert code == 2
    assert "quantised model cannot be edited" in told
    assert "Load it without quantisation" in told


def test_an_answer_without_a_token_is_refused(broca: Broca, place: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.jsonl"
    lines = (place / "facts" / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["object"] = ""
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "templates.toml").write_bytes((place / "facts" / "templates.toml").read_bytes())
    code, told = broca("bench", "locators", "--model", place / "model", "--facts", facts)
    assert code == 2
    assert "facts.jsonl" in told
    assert "object" in told
