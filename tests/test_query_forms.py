"""Forms of asking in query studies: given, chosen on a sample of its own, told by a dry run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broca.cli import run_cli
from broca.errors import PromptError, QuestionsError, RecipeError
from broca.prompts import ChoicePrompt, Prompt
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.run.dry import dry_run
from broca.studies.queries import QueriesConfig
from broca.studies.queries.forms import choose_form
from broca.studies.queries.material import _ask_letters, _ask_words
from planted import planted_world
from planted_files import write_planted_facts
from query_files import rows, write_rows
from tiny import tiny_model


class Bench:
    """Answers every prompt rightly in one form, wrongly in the others."""

    def __init__(self, right: str) -> None:
        self.right = right
        self.tried: dict[str, Sequence[Prompt]] = {}
        self.model: Any = SimpleNamespace(
            is_embedded=False, chat=lambda text: f"<user>{text}<model>"
        )

    def _found(self, prompts: Sequence[Prompt]) -> list[Any]:
        return [
            SimpleNamespace(prompt=prompt, correct=prompt.form == self.right, said="it")
            for prompt in prompts
        ]

    def find_letters(self, prompts: Sequence[ChoicePrompt], variant: str) -> list[Any]:
        return self._found(prompts)

    def find_words(self, prompts: Sequence[Prompt]) -> list[Any]:
        return self._found(prompts)

    def try_forms(self, forms: Mapping[str, Sequence[Prompt]], variant: str) -> dict[str, Any]:
        self.tried = dict(forms)
        return {form: self._found(prompts) for form, prompts in forms.items()}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_planted_facts(tmp_path_factory.mktemp("facts"), ("father", "ceo", "river")))


@pytest.fixture
def questions(tmp_path: Path) -> str:
    return str(write_rows(tmp_path / "q.jsonl", rows(2, 30)))


def texts(asked: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    return {query: listed[0].prompt.text for query, listed in asked.items()}


@pytest.mark.parametrize(
    ("form", "begins", "ends"),
    [
        ("chat", "<user>", "<model>"),
        ("Well. {wording} So:", "Well. ", " So:"),
        ("question", "Which", ""),
        (None, "Which", ""),
    ],
)
def test_letters_are_asked_in_the_form_given(
    questions: str, form: str | None, begins: str, ends: str
) -> None:
    bench: Any = Bench("question")
    config = QueriesConfig(questions=questions, form=form, n_prompts=1)
    asked = _ask_letters(config, "field", bench)[1]
    assert len(asked) == 60
    for listed in asked.values():
        prompt = listed[0].prompt
        assert begins in prompt.text
        assert prompt.text.startswith(begins) or begins == "Which"
        assert prompt.text.endswith(ends)
        assert prompt.form == (form or "question")


@pytest.mark.parametrize("form", ["few-shot", "few-shot-other"])
def test_letters_behind_demonstrations(questions: str, form: str) -> None:
    bench: Any = Bench("question")
    config = QueriesConfig(questions=questions, form=form, shots=3, n_prompts=1, per_field=9)
    found, asked, _ = _ask_letters(config, "field", bench)
    assert len(asked) == 18
    for query, text in texts(asked).items():
        assert len(asked[query][0].prompt.shown) == 3
        assert [q for q, one in found.items() if one.question in text] == [query]
    with pytest.raises(PromptError, match="11 demonstrations are more than"):
        _ask_letters(replace(config, shots=11), "field", bench)


@pytest.mark.parametrize("answer", ["letters", "words"])
@pytest.mark.parametrize("right", ["few-shot", "chat"])
def test_the_form_with_most_right_answers_on_a_sample_of_its_own(
    questions: str, facts: str, answer: str, right: str
) -> None:
    bench: Any = Bench(right)
    source = {"questions": questions} if answer == "letters" else {"facts": facts}
    config = QueriesConfig(**source, form="auto", shots=2, n_prompts=1)
    ask = _ask_letters if answer == "letters" else _ask_words
    _, asked, tried = ask(config, "field", bench)
    assert {one.form: one.accuracy for one in tried if one.accuracy} == {right: 1.0}
    assert all(one.apart for one in tried)
    kept = {prompt.fact for prompts in bench.tried.values() for prompt in prompts}
    assert kept
    assert not kept & set(asked)
    assert {listed[0].prompt.form for listed in asked.values()} == {right}
    given = ask(replace(config, form=right), "field", bench)[1]
    assert set(asked) <= set(given)
    assert all(text == texts(given)[query] for query, text in texts(asked).items())


def test_too_few_to_keep_some_apart_is_told(tmp_path: Path) -> None:
    bench: Any = Bench("question")
    path = write_rows(tmp_path / "few.jsonl", rows(2, 5))
    config = QueriesConfig(questions=str(path), form="auto", n_prompts=1)
    form, tried = choose_form(config, "field", bench, "letters")
    assert form == "question"
    assert not any(one.apart for one in tried if one.n)


def test_two_forms_at_once_are_refused() -> None:
    with pytest.raises(RecipeError, match="chat_template asks in another form"):
        QueriesConfig(chat_template=True, form="few-shot")


def test_the_dry_run_and_the_page_tell_the_forms(facts: str, tmp_path: Path) -> None:
    model = planted_world().language_model()
    job = read_job(
        {
            "studies": ["queries.find"],
            "answer": "words",
            "facts": facts,
            "form": "auto",
            "shots": 2,
            "per_field": 3,
            "n_asked": 6,
            "n_prompts": 1,
            "methods": ["na-ica"],
        }
    )
    run = execute(job, tmp_path / "run", model=model)
    found = run.read_json("findings.json")["queries.find"]
    forms = {one["form"]: one["accuracy"] for one in found["tables"]["forms"]}
    assert forms["question"] == max(accuracy or 0 for accuracy in forms.values())
    assert forms["question"] > min(accuracy for accuracy in forms.values() if accuracy is not None)
    listed = ", ".join(
        f"{form} {'not asked' if accuracy is None else f'{accuracy:.0%}'}"
        for form, accuracy in forms.items()
    )
    (told,) = (words for words in found["words"] if "Forms tried" in words)
    assert listed in told
    assert "kept for this alone" in told
    assert "Forms of asking" in write_report([run]).read_text(encoding="utf-8")
    (dry,) = dry_run(job, model).words
    assert dry == told


def test_answers_that_may_be_copied_are_told(tmp_path: Path) -> None:
    world = planted_world()
    path = write_planted_facts(tmp_path / "facts", ("father", "river"))
    job = read_job(
        {
            "studies": ["queries.find"],
            "answer": "words",
            "facts": str(path),
            "form": "few-shot",
            "shots": 6,
            "per_field": 6,
            "n_prompts": 1,
            "methods": ["na-ica"],
            "only_right": False,
        }
    )
    run = execute(job, tmp_path / "run", model=world.language_model())
    prompts = [p for p in run.prompts().values() if p["role"] == "query"]
    shown = [p for p in prompts if set(p["shown"]) & set(p["answers"])]
    named = [
        p
        for p in prompts
        if p not in shown and any(a.casefold() in p["subject"].casefold() for a in p["answers"])
    ]
    assert shown
    assert run.summary["queries.shown"] == len(shown)
    assert run.summary["queries.named"] == len(named)
    words = run.read_json("findings.json")["queries.find"]["words"]
    said = f"In {len(shown)} of them the right answer stands among the demonstrations"
    assert any(said in one for one in words)


def test_a_model_that_knows_nothing_is_told_by_forms_and_examples(
    facts: str, tmp_path: Path
) -> None:
    settings = {"studies": ["queries.find"], "answer": "words", "facts": facts, "n_asked": 3}
    model = tiny_model("llama")
    with pytest.raises(QuestionsError) as caught:
        execute(read_job({**settings, "form": "cloze"}), tmp_path / "one", model=model)
    said = str(caught.value)
    assert "asked in the form cloze; '" in said
    assert said.count(" was followed by ") == 3
    with pytest.raises(QuestionsError, match="asked in the forms question 0%, cloze 0%, few-shot"):
        execute(read_job({**settings, "form": "auto", "shots": 2}), tmp_path / "all", model=model)


def test_a_dry_run_chooses_between_letters_and_words_as_the_run_does(questions: str) -> None:
    """A random model chooses no letters above chance."""
    settings = {
        "studies": ["queries.find"],
        "questions": questions,
        "answer": "auto",
        "form": "question",
        "n_prompts": 1,
        "methods": ["na-ica"],
    }
    (told,) = dry_run(read_job(settings), tiny_model("llama")).words
    assert told.startswith(
        "Asked in words, in the form question, for example: 'Which one is number"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--form", "qestion"], "Did you mean 'question'"),
        (["--form", "So: wording"], "has no {wording}"),
        (["--form", "few-shot", "--chat-template"], "chat_template asks in another form"),
        (["--shots", "0"], "--shots"),
    ],
)
def test_find_queries_takes_form_and_shots(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_cli(["find", "queries", *options, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
