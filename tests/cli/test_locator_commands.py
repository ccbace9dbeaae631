"""Locators by command: `find relations --method`, `bench locators`, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broca.effects import ablate_each
from broca.locators import Located, locate
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.store import RunFolder
from cli.refusals import Broca, refused
from planted import planted_world

PLANTED = (
    *("--set", 'studies=["locators.planted"]', "--set", "n_prompts=2", "--set", "form=question"),
    *("--set", "locators=gradient,random", "--set", "reference=random"),
)
SETTINGS = ("--set", "n_evaluation=10", "--set", "min_detection=4", "--sites", "hidden")


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
    code, out, told = broca(*find, "--method", "exact", "--out", tmp_path / "exact")
    assert code == 0, told
    assert "exact from" in out
    neurons = NeuronSet.load(tmp_path / "exact" / "river.json")
    assert (len(neurons), neurons.method) == (6, "exact")
    model = planted_world().language_model()
    losses = [-ablate_each(model, [one], progress=False).values[0] for one in seen]
    mean = np.mean(losses, axis=0, dtype=np.float64)
    best = np.argsort(-mean.ravel(), kind="stable")[:6]
    assert {(n.layer, n.index) for n in neurons} == {divmod(int(b), mean.shape[1]) for b in best}
    np.testing.assert_allclose(neurons.scores, mean.ravel()[best], atol=1e-5)
    assert {one.relation for one in seen} == {"river"}
    code, _, told = broca(*find, "--method", "mean-difference", "--out", tmp_path / "other")
    assert code == 0, told
    other = NeuronSet.load(tmp_path / "other" / "river.json")
    assert set(other) == set(planted_world().planted["river"])
    assert other.method == "mean-difference"


def test_masks_of_a_relation_have_the_sets_size_as_budget(
    broca: Broca, place: Path, tmp_path: Path
) -> None:
    find = ("find", "relations", *source(place), *SETTINGS, "--top", 6, "--relation", "river")
    code, _, told = broca(*find, "--method", "slimming", "--out", tmp_path / "masks")
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
    code, _, told = broca(*bench)
    assert code == 0, told
    run = RunFolder.open(out)
    assert run.finished
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("Against the exact effect", "Planted neurons", "The neurons of a relation"):
        assert words in page
    assert 'fill="#000"' not in page  # which no dark page could show
    code, _, told = broca(*bench)
    assert (code, "is finished" in told) == (2, True)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("find relations --method magic", "no locator 'magic'"),
        ("find relations --method exakt", "Did you mean 'exact'"),
        ("find relations --method slimming --top 10000", "neurons"),
        ("find relations --method exact --top 0", "must be at least 1"),
        ("find queries --method exakt", "Did you mean 'exact'"),
        ("find queries --method na-icca", "Did you mean 'na-ica'"),
        ("find queries --method exact --set prefilter=-0.1", "must be above 0"),
        ("find queries --method exact --set prefilter=1.5", "must be at most 1"),
        ("find queries --top 0", "greater than or equal to 1"),
        ("find queries --answer words --top 100000", "100,000 neurons of a query are asked for"),
        ("find queries --set n_prompts=0", "must be at least 1"),
        ("find queries --set n_prompts=two", "valid integer"),
        ("find queries --set replacement=mean --set suppress=0.5", "either scaled or replaced"),
        ("bench locators --set locators=exakt,ig", "Did you mean 'exact'"),
        (
            "bench locators --set locators=exact",
            "not among the locators (locators = exact)",
        ),
        ("bench locators --set locators=exact --set reference=exact", "no locator to judge"),
        ("bench locators --set mask_share=1.5", "must be below 1"),
        ("bench locators --set n_prompts=0", "must be at least 2"),
        ("bench locators --set top=0", "must be at least 1"),
        ("bench locators --set top=99999", "the model has 640 (top)"),
        ("bench locators --set sizes=0,3", "must be at least 1"),
        ("bench locators --set sizes=99999", "the model has 640 (sizes)"),
        ("bench locators --set sizes=[]", "no size to try"),
        ("bench locators --set prefilter=2", "must be at most 1"),
        ("bench locators --set form=fewshot", "Did you mean 'few-shot'"),
        ("bench locators --set truth=exact", "no setting 'truth'"),
        ("bench locators --set studies=locators.agreemant", "Did you mean 'locators.agreement'"),
        ("bench locators --set relations=rivr", "Did you mean 'river'"),
    ],
)
def test_what_is_refused(
    broca: Broca, place: Path, tmp_path: Path, command: str, words: str
) -> None:
    out = tmp_path / "none"
    sizes = SETTINGS if command.startswith("find relations") else ()
    refused(broca(*command.split(), *source(place), *sizes, "--out", out), words)
    assert {file.stem for file in out.glob("*.json")} <= {"elapsed", "environment"}  # no set


def test_more_planted_than_there_are(broca: Broca, place: Path, tmp_path: Path) -> None:
    bench = ("bench", "locators", *source(place), "--out", tmp_path / "planted")
    refused(broca(*bench, "--set", "planted=9999", *PLANTED), "were to be planted")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('n_prompts = "many"', "valid integer"),
        ('locators = "ig"', 'it must be a list, such as ["a", "b"]'),
        ('sizes = [1, "x"]', "valid integer"),
        ("locators = []", "(locators = none). Add it, or name one of them"),
        ("n_promts = 3", "Did you mean 'n_prompts'"),
    ],
)
def test_wrong_values_in_a_recipe(broca: Broca, tmp_path: Path, lines: str, words: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'studies = ["locators.agreement"]\nfacts = "atlas"\n{lines}\n')
    refused(broca("run", recipe, "--out", tmp_path / "run"), words)


def test_a_quantised_model_is_refused_before_anything_is_judged(
    broca: Broca, place: Path, tmp_path: Path, quantised: None
) -> None:
    outcome = broca("bench", "locators", *source(place), "--out", tmp_path / "run")
    refused(outcome, "quantised model cannot be edited", "Load it without quantisation")


def test_an_answer_without_a_token_is_refused(broca: Broca, place: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.jsonl"
    lines = (place / "facts" / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["object"] = ""
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "templates.toml").write_bytes((place / "facts" / "templates.toml").read_bytes())
    outcome = broca("bench", "locators", "--model", place / "model", "--facts", facts)
    refused(outcome, "facts.jsonl", "object")
