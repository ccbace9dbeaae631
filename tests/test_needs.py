"""What shows without the model is refused before it is loaded, and leaves no folder behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broca.attributions.branching import FORMS
from broca.attributions.rules import METHODS
from broca.attributions.tails import PATHS
from broca.cli import run_cli
from broca.errors import FactsError
from broca.recipes import build_config
from broca.run.job import ModelSettings, read_job
from broca.studies import load_family
from broca.studies.queries import QueriesConfig
from broca.studies.relations.needs import FILES, check_names


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def load(self: ModelSettings) -> None:
        pytest.fail("the model was loaded before the refusal")

    monkeypatch.setattr(ModelSettings, "load", load)


def write_questions(folder: Path, n: int, **about: Any) -> Path:
    path = folder / "q.jsonl"
    rows = [
        {"question": f"{i}?", "options": ["x", "y"], "answer": "xy"[i % 2], "field": "f", **about}
        for i in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def write_facts(folder: Path, relations: tuple[str, ...], n: int) -> Path:
    rows = [
        {"subject": f"{name} {i}", "relation": name, "object": f"o{i}"}
        for name in relations
        for i in range(n)
    ]
    path = folder / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tables = "".join(f"[{json.dumps(name)}]\ntemplates = ['{{}} is']\n" for name in relations)
    (folder / "templates.toml").write_text(tables, encoding="utf-8")
    return path


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("study", "settings", "said"),
    [
        ("queries.languages", ["questions=q.jsonl"], "two languages are needed"),
        ("queries.flips.languages", ["questions=q.jsonl"], "two languages are needed"),
        ("queries.effect", ["questions=q.jsonl"], "2 fields are needed"),
        ("queries.languages", ["answer=words"], "two languages are needed"),
        ("queries.find", ["answer=words", "facts=nowhere"], "no such file"),
        ("queries.find", ["questions=short.jsonl"], "2 questions are too few"),
        ("queries.find", ["questions=q.jsonl", "method=riemann-linspace", "n_steps=1"], "n_steps"),
        ("queries.find", ["method=simpson"], "'method' cannot be"),
        ("queries.find", ["attribution_dtype=int8"], "'attribution_dtype' cannot be"),
        ("queries.find", ["answer=words", "chat_template=true"], "chat_template is for letters"),
        ("queries.find", ["questions=q.jsonl", "facts=lre"], "facts is for answers in words"),
        ("queries.find", ["questions=q.jsonl", "n_asked=9"], "n_asked is for answers in words"),
        ("queries.find", ["fields_are=domain"], "fields_are is for answers in words"),
        ("queries.find", ["questions=q.jsonl", "shots=2"], "shots is for the few-shot forms"),
        ("queries.find", ["answer=words", "form=cloze", "shots=2"], "the form is cloze"),
        ("relations.intra", ["facts=lre", "form=chat", "shots=2"], "the form is chat"),
        ("locators.agreement", ["form=question", "shots=2"], "the form is question"),
        ("relations.intra", ["facts=nowhere"], "no such file"),
        ("relations.intra", ["relations=capitol"], "unknown relation"),
        ("relations.intra", ["facts=few.jsonl"], "n_evaluation"),
        ("relations.intra", ["template_set=none"], "no template set"),
        ("relations.general", ["carriers=nowhere.jsonl"], "no such file"),
        ("relations.concept", ["prose=nowhere.jsonl"], "no such file"),
        ("relations.resilience", ["frequencies=nowhere.csv"], "no such file"),
    ],
)  # fmt: skip
def test_refused_before_the_model_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    study: str,
    settings: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_questions(tmp_path, 2).rename(tmp_path / "short.jsonl")
    write_questions(tmp_path, 6)
    write_facts(tmp_path, ("a", "b"), 6).rename(tmp_path / "few.jsonl")
    (tmp_path / "recipe.toml").write_text(f'studies = ["{study}"]\n')
    arguments = [word for one in settings for word in ("--set", one)]
    for more in ([], ["--dry-run"]):
        assert run_cli(["run", "recipe.toml", "--out", "run", *more, *arguments]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "run").exists()


def test_names_that_figures_could_not_tell_apart() -> None:
    check_names(["a/b", "a-b", "ab"])
    with pytest.raises(FactsError, match="'a/b' and 'a:b'"):
        check_names(["a/b", "a:b"])


def test_lists_of_names_are_those_of_the_code() -> None:
    hints = QueriesConfig.__dataclass_fields__
    for name, known in (("method", METHODS), ("path", PATHS), ("branches", ("auto", *FORMS))):
        assert name in hints
        for value in known:
            build_config(QueriesConfig, {name: value})
    assert set(FILES) <= set(load_family("relations").studies)


def test_committed_recipes_pass(tmp_path: Path) -> None:
    read_job({"studies": ["relations.intra", "relations.general"], "facts": "atlas"}).check()
    for answer in ("letters", "words", "auto"):
        read_job({"studies": ["queries.effect", "queries.find"], "answer": answer}).check()


@pytest.mark.parametrize(
    "settings",
    [
        {"answer": "auto", "facts": "atlas", "n_asked": 9, "fields_are": "domain"},
        {"answer": "auto", "chat_template": True},
        {"answer": "auto", "form": "auto", "shots": 2},
        {"chat_template": True},
        {"form": "few-shot-other", "shots": 2},
        {"answer": "words", "form": "few-shot", "shots": 2, "n_asked": 9, "facts": "atlas"},
    ],
)
def test_settings_that_are_used_pass(settings: dict[str, Any]) -> None:
    family = load_family("queries")
    studies = [family.studies["queries.find"]]
    family.check(QueriesConfig(**settings), studies, embedded=True)


def test_letters_of_one_study_keep_settings_of_letters() -> None:
    """`queries.controls` asks in letters, whatever the settings say."""
    family = load_family("queries")
    studies = [family.studies["queries.controls"], family.studies["queries.find"]]
    family.check(QueriesConfig(answer="words", chat_template=True), studies, embedded=True)
