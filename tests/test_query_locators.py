"""Locators as methods of query studies: against the mean over a query's prompts, written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broca.choices import find_letters, find_words
from broca.cli import run_cli
from broca.effects import ablate_each
from broca.effects.aims import make_aims
from broca.errors import AttributionError, RecipeError
from broca.locators import LOCATORS, locate
from broca.prompts import Form, Prompt
from broca.questions import load_questions
from broca.run import execute, read_job
from broca.scores import QUERY_METHODS, QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.asking import render
from broca.studies.queries.config import LOCATOR_METHODS
from broca.studies.queries.locating import locate_query, others_of
from query_files import rows, write_rows
from tiny import TEXTS, tiny_model, tiny_tokenizer

QUICK: dict[str, Any] = {"n_prompts": 2, "u": 0.9, "answer": "letters", "v": 10}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("files") / "questions.jsonl", rows(2, 2))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama").module.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def found(questions: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Neurons of every query by every method there is."""
    values = {
        **QUICK,
        "studies": ["queries.find"],
        "questions": str(questions),
        "methods": [*QUERY_METHODS, *LOCATOR_METHODS],
    }
    job = read_job(values)
    return execute(job, tmp_path_factory.mktemp("all") / "run", model=tiny_model(), report=False)


def letters(questions: Path, model) -> dict[str, list]:
    config = QueriesConfig(questions=str(questions), **QUICK)
    prompts = render(load_questions(questions), config, Form())
    return {query: list(find_letters(model, listed)) for query, listed in prompts.items()}


def test_every_locator_chooses_the_highest_means(found: RunFolder, questions: Path) -> None:
    model = tiny_model()
    sets = QuerySets.load(found.path / "sets" / "queries.parquet")
    assert set(sets.methods) == {*QUERY_METHODS, *LOCATOR_METHODS}
    asked = letters(questions, model)
    firsts = [listed[0].prompt for listed in asked.values()]
    for query in list(asked)[1:2]:
        prompts = [one.prompt for one in asked[query]]
        targets = [one.target for one in asked[query]]
        apart = [prompt for prompt in firsts if prompt.fact != query]
        for name in LOCATOR_METHODS:
            locator = LOCATORS[name]
            located = locate(
                model,
                prompts,
                name,
                target=targets,
                others=apart if locator.contrast else (),
                **({"shared": True, "budget": 10} if locator.learned else {}),
            )
            mean = located.values.astype(np.float64).mean(0).ravel()
            chosen = sets.rankings[name][query]
            assert len(chosen) == len(sets.rankings["na-ica"][query])
            order = sorted(range(len(mean)), key=lambda n: (-mean[n], n))
            assert chosen.neurons.tolist() == order[: len(chosen)], name


def test_whole_answers_are_what_locators_read() -> None:
    """An answer of several tokens, given as tokens, is the sum over its tokens."""
    model = tiny_model()
    prompts = [Prompt(str(n), TEXTS[n], ("zebra",), fact="q") for n in range(2)]
    words = list(find_words(model, prompts))
    assert all(len(one.target) > 1 for one in words)
    config = QueriesConfig(methods=("na-ica", "exact"), v=12)
    ranking = locate_query(model, words, (), config)["exact"]
    loss = 0.0
    for one in words:
        for number, token in enumerate(one.target):
            tokens = [*one.tokens, *one.target[:number]]
            loss = loss - ablate_each(model, [tokens], target=token, progress=False).values[0]
    mean = np.asarray(loss).ravel() / 2
    assert ranking.neurons.tolist() == np.argsort(-mean, kind="stable")[:12].tolist()
    np.testing.assert_allclose(ranking.scores, mean[ranking.neurons], atol=1e-5)


def test_given_answers_are_the_prompts_own() -> None:
    model = tiny_model()
    prompt = Prompt("p", TEXTS[0], ("zebra",))
    own = make_aims(model, [prompt], "answer")
    answer = [aim.target for aim in own[0]]
    assert make_aims(model, [prompt], [answer]) == own
    with pytest.raises(AttributionError, match="no token"):
        make_aims(model, [prompt], [[]])
    with pytest.raises(AttributionError, match="1 prompts and 2 answers"):
        make_aims(model, [prompt], [answer, answer])


def test_what_a_prefilter_left_out_counts_as_nothing() -> None:
    model = tiny_model()
    asked = [Prompt(str(n), text, (" dog",)) for n, text in enumerate(TEXTS[:3])]
    found, part = locate(model, asked, "exact"), locate(model, asked, "exact", prefilter=0.2)
    measured = ~np.isnan(part.values)  # a fifth and a sample, the same for all tokens of an answer
    assert measured.mean() == pytest.approx(0.22, abs=0.01)
    wanted = np.where(measured, found.values, 0.0).mean(0).ravel()
    np.testing.assert_allclose(part.mean().ravel(), wanted, atol=1e-5)
    last = np.argsort(-part.of_prompt(0).ravel(), kind="stable")[measured[0].sum() :]
    assert not measured[0].ravel()[last].any()


def test_contrasts_are_spread_over_all_queries() -> None:
    model = tiny_model()
    prompts = [Prompt(str(n), TEXTS[0], ("dog",), fact=f"q{n}") for n in range(100)]
    (one,) = find_words(model, prompts[:1])
    words = {prompt.fact: [replace(one, prompt=prompt)] for prompt in prompts}
    facts = [prompt.fact for prompt in others_of(words)]
    assert len(facts) == len(set(facts)) == 48
    assert facts[0] == "q0"
    assert int(facts[-1][1:]) >= 96


def test_an_effect_study_compares_with_locators(questions: Path, tmp_path: Path) -> None:
    values = {
        **QUICK,
        "studies": ["queries.effect"],
        "questions": str(questions),
        "methods": ["na-ica", "exact", "gradient-activation"],
        "n_unrelated": 2,
        "n_matched": 1,
        "n_resamples": 50,
        "n_permutations": 50,
    }
    run = execute(read_job(values), tmp_path / "run", model=tiny_model())
    effects = run.read_json("findings.json")["queries.effect"]["tables"]["effects"]
    assert {row["method"] for row in effects} == {"na-ica", "exact", "gradient-activation"}
    assert "gradient-activation" in (run.path / "report.html").read_text(encoding="utf-8")


def test_by_command(
    questions: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    arguments = ["find", "queries", "--model", str(saved), "--questions", str(questions)]
    arguments += ["--answer", "letters", "--set", "n_prompts=1", "--set", "u=0.9"]
    chosen = [*arguments, "--method", "exact", "--method", "mean-difference"]
    assert run_cli([*chosen, "--out", str(out)]) == 0
    assert "by 3 methods" in " ".join(capsys.readouterr().out.split())
    sets = QuerySets.load(out / "sets" / "queries.parquet")
    assert sets.methods == ("na-ica", "exact", "mean-difference")
    for wrong, words in (
        (["--method", "magic"], "no method 'magic'"),
        (["--method", "exact", "--set", "site=up"], "exact ranks hidden neurons"),
    ):
        assert run_cli([*arguments, *wrong, "--out", str(tmp_path / "none")]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "none").exists()


def test_locators_are_told_from_the_studys_own_methods() -> None:
    assert set(LOCATOR_METHODS) == set(LOCATORS) - {"activation", "random"}
    with pytest.raises(RecipeError, match="random, exact"):
        QueriesConfig(methods=("na-ica", "nothing"))
