"""Questions from public data sets, on small local files of the same schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from broca.errors import QuestionsError
from broca.prompts import render_question_prompts
from broca.questions import build_question_file, load_questions

SUBJECTS = (
    "biology", "chemistry", "computer_science", "geography", "mathematics", "physics",
)  # fmt: skip
LANGUAGES = ("ar", "en", "fr", "ja", "ru", "zh")
RELATIONS = ("P19", "P108", "P1303", "P159", "P17")


def mmlu_rows(subject: str, n: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "question": f"{subject} {i}?",
            "subject": subject,
            "choices": [f"{subject}{i}{x}" for x in "wxyz"],
            "answer": i % 4,
        }
        for i in range(n)
    ]


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_mmlu(folder: Path) -> Path:
    for name in (*(f"high_school_{s}" for s in SUBJECTS), "astronomy"):
        write_parquet(folder / name / "test-00000-of-00001.parquet", mmlu_rows(name))
        write_parquet(folder / name / "dev-00000-of-00001.parquet", mmlu_rows(name, 7)[5:])
    return folder


def mlama_rows() -> list[dict[str, Any]]:
    """Eight facts per relation and language; English has a ninth, and a second employer of s0."""
    rows = [
        {
            "uuid": f"{relation}{i}",
            "lineid": i,
            "obj_uri": "Q1",
            "obj_label": f"{relation}.o{i}.{language}",
            "sub_uri": "Q2",
            "sub_label": f"s{i}",
            "template": "[X] works for [Y] .",
            "language": language,
            "predicate_id": relation,
        }
        for language in (*LANGUAGES, "de")
        for relation in (*RELATIONS, "P30")
        for i in range(9 if language == "en" else 8)
    ]
    second = {"lineid": 77, "sub_label": "s0", "obj_label": "second", "language": "en"}
    return [*rows, {**rows[0], **second, "predicate_id": "P108"}]


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_mmlu_from_a_folder_of_parquet_files(tmp_path: Path) -> None:
    write_mmlu(tmp_path / "mmlu")
    recipe = write_recipe(tmp_path, 'mapping = "mmlu"\nsource = "mmlu"\nper_field = 3\n')
    questions = load_questions(build_question_file(recipe, tmp_path / "q.jsonl"))
    assert sorted({q.field for q in questions}) == list(SUBJECTS)
    assert len(questions) == 3 * 6
    for q in questions:
        number = int(q.question.split()[1][:-1])
        assert number < 5, "rows of another split"
        assert q.right == f"high_school_{q.field}{number}{'wxyz'[number % 4]}"


def test_build_depends_on_seed_but_not_on_order_of_files(tmp_path: Path) -> None:
    rows = [row for s in SUBJECTS for row in mmlu_rows(f"high_school_{s}")]
    recipe = 'mapping = "mmlu"\nsource = "rows.json"\nper_field = 3\nseed = {}\n'
    built = []
    for order, seed in ((rows, 0), (rows[::-1], 0), (rows, 1)):
        (tmp_path / "rows.json").write_text(json.dumps(order))
        path = write_recipe(tmp_path, recipe.format(seed))
        built.append(
            {q.id for q in load_questions(build_question_file(path, tmp_path / "o.jsonl"))}
        )
    assert built[0] == built[1] != built[2]


def test_repeated_rows_of_a_data_set_count_once(tmp_path: Path) -> None:
    rows = mmlu_rows("high_school_physics") + mmlu_rows("high_school_biology")
    write_parquet(tmp_path / "rows.parquet", rows + rows[:2])
    recipe = write_recipe(tmp_path, 'mapping = "mmlu"\nsource = "rows.parquet"\n')
    assert len(load_questions(build_question_file(recipe, tmp_path / "q.jsonl"))) == 10


def test_mlama_has_relations_and_languages_of_the_paper(tmp_path: Path) -> None:
    write_parquet(tmp_path / "m.parquet", mlama_rows())
    recipe = write_recipe(tmp_path, 'mapping = "mlama"\nsource = "m.parquet"\nper_relation = 4\n')
    questions = load_questions(build_question_file(recipe, tmp_path / "q.jsonl"))
    assert len(questions) == 6 * 5 * 4
    assert {(q.language, q.relation) for q in questions} == {
        (language, relation) for language in LANGUAGES for relation in RELATIONS
    }
    assert all(q.field == q.language for q in questions)
    facts = [{q.id.split("@")[0] for q in questions if q.language == x} for x in LANGUAGES]
    assert all(f == facts[0] for f in facts), "all languages ask for the same facts"
    chosen = {q.right for q in questions}
    assert any(o not in chosen for q in questions for o in q.pool), "objects of all facts are used"
    english = next(q for q in questions if q.language == "en")
    assert english.question.split("\n")[0].endswith(" works for [Y] .")
    assert all("[X]" not in q.question for q in questions)
    for prompt in render_question_prompts(questions):
        assert {o.rpartition(".")[2] for o in prompt.options if o != "second"} == {prompt.language}


def test_mlama_joins_objects_of_one_subject_and_draws_per_prompt(tmp_path: Path) -> None:
    write_parquet(tmp_path / "m.parquet", mlama_rows())
    recipe = write_recipe(tmp_path, 'mapping = "mlama"\nsource = "m.parquet"\n')
    questions = load_questions(build_question_file(recipe, tmp_path / "q.jsonl"))
    twice = next(q for q in questions if q.id == "P108-0@en")
    assert twice.right == "P108.o0.en"
    assert "second" not in (*twice.options, *twice.pool)
    prompts = render_question_prompts([twice])
    assert len({frozenset(p.options) for p in prompts}) > 1
    assert sum(q.language == "en" for q in questions) == 5 * 9


def test_mapping_of_ones_own_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'kind = "choice"\n[columns]\nquestion = "q"\nanswer = "a"\nfield = "topic"\n'
    )
    (tmp_path / "rows.csv").write_text(
        "q,a,topic\n" + "".join(f"{t}{i}?,{t}{i},{t}\n" for t in "xy" for i in range(4))
    )
    recipe = write_recipe(tmp_path, 'mapping = "mine.toml"\nsource = "rows.csv"\nn_options = 3\n')
    questions = load_questions(build_question_file(recipe, tmp_path / "q.jsonl"))
    assert len(questions) == 8
    assert all(len(q.options) == 3 and {o[0] for o in q.options} == {q.field} for q in questions)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ('source = "rows.json"', "names no mapping"),
        ('mapping = "triviaqa"\nsource = "rows.json"', r"unknown mapping 'triviaqa'.*mmlu, mlama"),
        ('mapping = "mmlu"\nsource = "nowhere"', "no such file or folder"),
        ('mapping = "mmlu"\nsorce = "x"', r"unknown setting 'sorce'.*Known: mapping"),
        ('mapping = "mmlu"\nper_field = "many"', "per_field must be of kind int"),
        ('mapping = "mlama"\nsource = "rows.json"', r"no column lineid.*Columns there: question"),
        ('mapping = "mmlu"\nsource = "rows.json"', "no row of the source fits"),
        ('mapping = "mmlu"\nsource = "recipe.toml"', r"'\.toml' are not known"),
        ('mapping = "mmlu"\nsource = "empty"', "holds no data"),
        ('mapping = "mmlu"\nsource = "bad.parquet"', "no Parquet file"),
        (
            'mapping = "mmlu"\nsource = "rows.json"\ncolumns = {question = "prompt"}',
            r"no column field|no column prompt",
        ),
    ],
)
def test_bad_recipes(tmp_path: Path, recipe: str, message: str) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(mmlu_rows("astronomy")))
    (tmp_path / "bad.parquet").write_text("no parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuestionsError, match=message):
        build_question_file(write_recipe(tmp_path, recipe), tmp_path / "q.jsonl")
    assert not (tmp_path / "q.jsonl").exists()


def test_hub_reader_on_a_local_repository_of_the_same_layout(
    tmp_path: Path,
) -> None:
    pytest.importorskip("datasets")
    folder = write_mmlu(tmp_path / "hub")
    configs = "".join(
        f"- config_name: high_school_{s}\n  data_files:\n"
        f"  - split: test\n    path: high_school_{s}/test-*\n"
        for s in SUBJECTS
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    hub = f'hub = {{dataset = "{folder}", configs = [CONFIGS]}}\n'
    names = ", ".join(f'"high_school_{s}"' for s in SUBJECTS)
    text = 'mapping = "mmlu"\nsource = "hub"\nper_field = 2\n'
    recipe = write_recipe(tmp_path, text + hub.replace("CONFIGS", names))
    questions = load_questions(build_question_file(recipe, tmp_path / "q.jsonl"))
    assert len(questions) == 12
    recipe = write_recipe(tmp_path, text + hub.replace("CONFIGS", '"high_school_art"'))
    with pytest.raises(QuestionsError, match=r"data set cannot be read.*high_school_art"):
        build_question_file(recipe, tmp_path / "q.jsonl")
