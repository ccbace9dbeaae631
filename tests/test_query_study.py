"""Query studies: draws, statistics, resuming, commands, and what a user can get wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broca.cli import run_cli
from broca.engines import LocalEngine
from broca.errors import BrocaError, PromptError, RecipeError, ScoreError
from broca.model import LanguageModel
from broca.model.chat import chat_text
from broca.prompts import Form
from broca.recipes import load_recipe
from broca.report.parts import figure
from broca.report.runs import write_report
from broca.run import choice_bench, execute, read_job
from broca.run.keeping import Keeping
from broca.scores import QuerySets
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.asking import read_apart, read_questions, render
from broca.studies.queries.effect import unrelated
from broca.studies.queries.forms import form_of
from broca.studies.queries.material import Material
from query_files import rows, write_rows
from tiny import tiny_model, tiny_tokenizer

QUICK: dict[str, Any] = {
    "studies": ["queries.effect"],
    "n_prompts": 1,
    "n_unrelated": 2,
    "n_matched": 1,
    "n_free_form": 0,
    "methods": ["na-ica", "random"],
    "n_resamples": 50,
    "n_permutations": 50,
}
SVG = "http://www.w3.org/2000/svg"
RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("files") / "questions.jsonl", rows())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model as users have one: a folder."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama").module.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Every study of a model that knows nothing."""
    values = {
        **QUICK,
        "studies": ["queries.effect", "queries.languages", "queries.free-form", "queries.parity"],
        "n_free_form": 4,
        "u": 0.9,
    }
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "questions.jsonl"
    listed = [{**row, "language": "de" if i // 2 % 2 else "en"} for i, row in enumerate(rows())]
    job = read_job({**values, "questions": str(write_rows(path, listed))})
    return execute(job, folder / "run", model=tiny_model("llama"), report=False)


# ---- what is asked


def test_unrelated_queries_are_of_every_other_field_and_drawn_by_seed() -> None:
    listed = {f"q{i}": SimpleNamespace(field=f"f{i % 3}") for i in range(30)}
    part: Any = SimpleNamespace(questions=listed, fields=("f0", "f1", "f2"), answer="letters")
    drawn = unrelated(part, "q0", 4, seed=1)
    assert len(drawn) == len(set(drawn)) == 8
    assert [listed[q].field for q in drawn] == ["f1"] * 4 + ["f2"] * 4
    assert drawn == unrelated(part, "q0", 4, seed=1) != unrelated(part, "q0", 4, seed=2)
    assert unrelated(part, "q3", 4, seed=1) != drawn
    assert len(unrelated(part, "q0", 100, seed=1)) == 20


def test_a_file_of_several_languages_is_asked_by_field_in_its_first_one(tmp_path: Path) -> None:
    listed = [
        {**row, "id": f"{row['id']}@{language}", "question": f"{language} {row['question']}"}
        | {"language": language}
        for row in rows(2, 4)
        for language in ("de", "en")
    ]
    config = QueriesConfig(questions=str(write_rows(tmp_path / "q.jsonl", listed)))
    assert [q.id for q in read_questions(config, "field")] == [f"q{i}@de" for i in range(8)]
    both = read_questions(config, "language")
    assert {(q.base, q.field) for q in both} == {
        (f"q{i}", f) for i in range(8) for f in ("de", "en")
    }
    named = read_questions(replace(config, languages=("en", "de")), "field")
    assert {q.language for q in named} == {"en"}


def test_chat_templates_are_the_tokenizers_own(questions: Path) -> None:
    config = QueriesConfig(questions=str(questions), n_prompts=1)
    listed = read_questions(config, "field")
    with pytest.raises(PromptError, match="no chat template"):
        render(listed, config, Form("chat", chat=partial(chat_text, tiny_tokenizer())))
    plain = render(listed, config, Form("question"))["q0"][0]
    chat = type("Chat", (), {})()
    chat.chat_template, chat.bos_token, chat.bos_token_id = "...", "<bos>", 1
    chat.apply_chat_template = lambda turn, **_: f"<bos>[{turn[0]['role']}] {turn[0]['content']} []"
    type(chat).__call__ = lambda self, text: type("Ids", (), {"input_ids": [1, 5]})()
    asked = render(listed, config, Form("chat", chat=partial(chat_text, chat)))["q0"][0]
    assert asked.text == f"[user] {plain.text} []"  # one BOS token, the tokenizer's
    assert (asked.id, asked.answers) == (f"{plain.id}/chat", plain.answers)
    assert form_of(replace(config, chat_template=True), "letters", embedded=False) == "chat"


@pytest.mark.parametrize("by", ["field", "language"])
def test_what_is_asked_shown_and_tried_is_apart(tmp_path: Path, by: str) -> None:
    listed = [
        {**row, "id": f"{row['id']}@{language}", "language": language}
        for language in ("en", "de")
        for row in rows(3, 30)
    ]
    path = write_rows(tmp_path / "q.jsonl", listed)
    config = QueriesConfig(questions=str(path), per_field=12, per_language=30)
    apart = read_apart(config, by, shows=True, tries=True)
    parts = [{one.base for one in part} for part in (apart.asked, apart.shown, apart.tried)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not parts[2] & (parts[0] | parts[1])
    limit = 12 if by == "field" else 30
    assert set(Counter(one.field for one in apart.asked).values()) == {limit}
    same = read_apart(config, by, shows=True, tries=False)
    assert [one.id for one in same.shown] == [one.id for one in apart.shown]
    asked = render(list(apart.asked), config, Form("few-shot", 4), apart.shown)
    for prompt in (one for own in asked.values() for one in own):
        there = [
            sum(one.question in prompt.text for one in part if one.language == prompt.language)
            for part in (apart.asked, apart.shown, apart.tried)
        ]
        assert there == [1, 4, 0]


# ---- runs


def test_a_model_near_chance_is_said_to_be_one(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = whole.read_json("findings.json")["queries.effect"]["words"]
    assert any("near chance" in text and "No conclusions" in text for text in words)
    assert not any("exceeds" in text or "order" in text for text in words)
    # charts are made and checked; drawing them is the renderer's work
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: f"<svg xmlns='{SVG}'/>")
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([whole], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "near chance" in page
    for title in (
        "Query neurons by field",
        "Query neurons by language",
        "Proxy against free form",
        "Beside a published run",
        "Worst convergence",
        "Neurons per query",
        "Layers",
    ):
        assert title in page, title
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_run_stores_what_the_contract_names(whole: RunFolder) -> None:
    figures = whole.summary
    for action in ("boost", "suppress"):
        for name in ("related", "unrelated", "difference", "pcr"):
            assert f"queries.na-ica.{action}.{name}" in figures
            assert f"queries.na-ica.{action}.{name}.low" in figures
            assert f"queries.languages.random.{action}.{name}.high" in figures
    assert 0 <= figures["attribution.converged_share"] <= 1
    assert figures["parity.comparable"] == 0
    sets = QuerySets.load(whole.path / "sets" / "queries.parquet")
    assert sets.methods == ("na-ica", "random")
    assert (whole.path / "sets" / "languages.parquet").exists()
    assert whole.finished
    assert not whole.check()


class _Stopped(LocalEngine):
    """Stops after so many attributions or units of rows, as Ctrl-C would."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def map(self, function: Callable, items: Any, *options: Any, **more: Any) -> Any:
        counts = not isinstance(function, Keeping)
        for item, result in super().map(function, items, *options, **more):
            if counts and not self.left:
                raise KeyboardInterrupt
            self.left -= counts
            yield item, result


def test_an_interrupted_run_ends_like_an_unbroken_one(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice_bench, "UNIT_ROWS", 30)
    job, model = read_job({**QUICK, "questions": str(questions), "u": 0.9}), tiny_model("llama")
    unbroken = execute(job, tmp_path / "unbroken", model=model, report=False)
    for n in (1, 2):  # in the middle of attributions, in the middle of rows
        with pytest.raises(KeyboardInterrupt):
            execute(job, tmp_path / "broken", model=model, report=False, engine=_Stopped(n))
    assert len(list((tmp_path / "broken" / "attributions").iterdir())) == 2
    assert len(RunFolder.open(tmp_path / "broken").rows.finished()) > 0
    broken = execute(job, tmp_path / "broken", model=model, report=False)
    assert broken.rows.read().equals(unbroken.rows.read())
    for run in (broken, unbroken):  # methods choose the same neurons, fields share prompts
        assert run.summary["rows.computed"] == run.summary["rows.needed"]
    first, second = (
        QuerySets.load(run.path / "sets" / "queries.parquet") for run in (broken, unbroken)
    )
    assert [list(first.neurons(q)) for q in first.queries] == [
        list(second.neurons(q)) for q in second.queries
    ]


# ---- commands and mistakes


def test_find_and_build_by_command(
    questions: Path,
    saved: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broca.report.runs.write_report", lambda runs: None)
    out = tmp_path / "found"
    arguments = ["find", "queries", "--model", str(saved), "--questions", str(questions)]
    arguments += ["--answer", "letters"]
    arguments += ["--set", "n_prompts=1", "--set", "u=0.9", "--out", str(out)]
    assert run_cli(arguments) == 0
    assert "queries.parquet" in capsys.readouterr().out
    assert RunFolder.open(out).finished
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('mapping = "own.toml"\nsource = "rows.jsonl"\n')
    (tmp_path / "own.toml").write_text('kind = "choice"\n')
    write_rows(tmp_path / "rows.jsonl", rows())
    assert run_cli(["build", "questions", str(recipe)]) == 0
    assert len((tmp_path / "recipe.jsonl").read_text().splitlines()) == 8


def test_a_dry_run_by_command(
    questions: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('studies = ["queries.effect"]\nn_prompts = 1\nu = 0.9\n')
    arguments = ["run", str(recipe), "--model", str(saved), "--set", f"questions={questions}"]
    assert run_cli([*arguments, "--dry-run"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "8 attributed" in told  # eight questions, one prompt each
    assert "attributing letters" in told
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


LONG = "cat " * 300


@pytest.mark.parametrize(
    ("listed", "options", "said"),
    [
        (rows(answer="whale"), [], "not among the options"),
        (rows(labels=["10", "11", "12", "13"]), [], "begin with the same token"),
        (rows(n_fields=1), [], "2 fields are needed"),
        (rows(question=LONG)[:1] + rows()[1:], [], "takes 256"),
        ([*rows(), {**rows()[0], "id": "again"}], [], "comes twice"),
        (rows(), ["columns.question=query"], "no column query"),
        (rows(), ["columns.colour=blue"], "unknown column"),
        ([*rows(1, 2), {**rows()[5], "field": "b"}], [], "common"),
        (rows(), ["u=0.05"], "counts as common"),
        (rows(), ["methods=na-ica,luck"], "no method 'luck'"),
        (rows(), ["boost=0.5"], "'boost' cannot be '0.5': it must be above 1"),
        (rows(), ["n_unrelated=0"], "at least 1"),
        (rows(), ["chat_template=true"], "no chat template"),
        (rows(), ["letter=loud"], "'letter' cannot be"),
    ],
)
def test_mistakes_end_in_words_and_code_2(
    listed: list[dict[str, Any]],
    options: list[str],
    said: str,
    saved: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_rows(tmp_path / "questions.jsonl", listed)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('studies = ["queries.effect"]\nn_prompts = 1\nmethods = ["na-ica"]\n')
    arguments = ["run", str(recipe), "--model", str(saved), "--out", str(tmp_path / "run")]
    for one in (f"questions={path}", *options):
        arguments += ["--set", one]
    assert run_cli(arguments) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "Traceback" not in told


def test_broken_probabilities_and_empty_clusters_are_refused(questions: Path) -> None:
    import torch

    model = tiny_model("gpt2", seed=5)

    class Nowhere:
        """A bench that keeps nothing."""

        def __init__(self, model: LanguageModel) -> None:
            self.model = model

        def find_letters(self, prompts: Any, variant: str) -> Any:
            from broca.choices import find_letters

            return list(find_letters(self.model, prompts, variant=variant))

        def attribute(self, parts: Any) -> Any:
            empty = [[], []]
            names = ("cluster", "knowledge", "activation")
            found = {**dict.fromkeys(names, empty), "prompts": [], "tops": []}
            return [{query: found for part in parts for query in part.queries}]

        def keep_query_sets(self, sets: Any, name: str) -> None: ...

    config = QueriesConfig(questions=str(questions), n_prompts=1)
    bench: Any = Nowhere(model)
    with pytest.raises(ScoreError, match="No query keeps a neuron"):
        Material(config).part("field", bench)
    with torch.no_grad():
        model.module.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(BrocaError, match="not finite"):
        Material(config).part("field", bench)


def test_committed_recipes_are_jobs() -> None:
    for path in sorted((RECIPES / "queries").glob("*.toml")):
        job = read_job(load_recipe(path), where=str(path))
        assert job.settings["queries"], path
    names = {path.stem for path in (RECIPES / "queries").glob("*.toml")}
    assert {"effect", "llama2-18-queries", "qrneuron-domains", "qrneuron-languages"} <= names


def test_settings_out_of_range_are_refused() -> None:
    for change in ({"n_prompts": 0}, {"per_field": 0}, {"methods": ("random",)}):
        with pytest.raises(RecipeError):
            QueriesConfig(**change)
    assert json.loads(json.dumps(QueriesConfig().actions)) == {"boost": 2.0, "suppress": 0.0}
