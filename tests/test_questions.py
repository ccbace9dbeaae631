"""Questions: released files, tables, facts, free-form answers, and errors that name the cure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from broca.errors import QuestionsError
from broca.facts import Fact, Relation, Relations
from broca.prompts import render_question_prompts
from broca.questions import (
    AskedForm,
    ChoiceWording,
    OpenQuestion,
    Question,
    build_questions,
    close_questions,
    load_questions,
    load_wordings,
    require_several_fields,
    with_language_as_field,
    write_questions,
)

HEADS = ("Answer with a letter.\nNow here is the question:\n", "The question is:\n", "Here:\n")
ORDERS = (("red", "blue", "grey", "pink"), ("pink", "red", "blue", "grey"))


def released(**changes: object) -> dict[str, object]:
    """An entry in the released format: three prompts, the right answer is blue."""
    orders = (ORDERS[0], ORDERS[1], ORDERS[0][::-1])
    sentences = [
        head + "What colour\nis the sky?\n" + "\n".join(
            f" {label}. {option}" for label, option in zip("ABCD", order, strict=True)
        ) + "\n\nResponse:"
        for head, order in zip(HEADS, orders, strict=True)
    ]  # fmt: skip
    entry = {"sentences": sentences, "obj_label": ["B", "C", "C"], "relation_name": "sky"}
    return {**entry, **changes}


def write_released(folder: Path, **entries: object) -> Path:
    path = folder / "asked.json"
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def write_rows(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(**changes: object) -> dict[str, object]:
    return {
        "question": "2 + 2?", "options": ["3", "4", "5"], "answer": "4", "field": "sums", **changes,
    }  # fmt: skip


def make_world() -> Relations:
    """Products with a maker (two for every third) and a country; eight of each."""
    makers = tuple(
        Fact(f"p{i}", "maker", (f"m{i % 5}", *((f"m{(i + 1) % 5}",) if i % 3 == 0 else ())))
        for i in range(8)
    )
    countries = tuple(Fact(f"p{i}", "country", (f"c{i % 4}",)) for i in range(8))
    return Relations(
        [
            Relation("maker", makers, {"finding": ("{} is made by", "Who makes {}?")}, "things"),
            Relation("country", countries, {"finding": ("{} comes from",)}, "places"),
        ]
    )


# --- released files ------------------------------------------------------------------------


def test_released_file_keeps_its_prompts(tmp_path: Path) -> None:
    (question,) = load_questions(write_released(tmp_path, one=released()))
    assert (question.id, question.field, question.language) == ("one", "sky", "en")
    assert question.question == "What colour\nis the sky?"
    assert question.right == "blue"
    prompts = render_question_prompts([question])
    assert [p.text for p in prompts] == released()["sentences"]
    assert [p.answers for p in prompts] == [("B",), ("C",), ("C",)]
    assert [p.options for p in prompts] == [ORDERS[0], ORDERS[1], ORDERS[0][::-1]]
    assert {p.right for p in prompts} == {"blue"}
    own = render_question_prompts([question], wordings=load_wordings())
    assert own[0].text.startswith("Read the question")


def test_released_language_file(tmp_path: Path) -> None:
    entry = released(relation_name="fr", relation="P108")
    (question,) = load_questions(write_released(tmp_path, one=entry))
    assert (question.field, question.language, question.relation) == ("fr", "fr", "P108")


def test_options_over_several_lines_and_stems_with_labels(tmp_path: Path) -> None:
    text = "Here A. is a trap\nA. trap\nQuestion\nA. one\nmore\n\nB. two\nResponse:"
    entry = released(sentences=[text], obj_label=["A"])
    (question,) = load_questions(write_released(tmp_path, one=entry))
    assert question.options == ("one\nmore", "two")
    assert question.question.endswith("A. trap\nQuestion")


def test_released_file_with_digits_as_labels(tmp_path: Path) -> None:
    entry = released(sentences=["Which?\n (1) one\n (2) two\nAnswer:"], obj_label=["2"])
    (question,) = load_questions(write_released(tmp_path, one=entry))
    assert (question.labels, question.options, question.right) == (
        ("1", "2"), ("one", "two"), "two",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obj_label": ["B", "E", "C"]}, r"'E' is not among the options.*line 12.*A, B, C, D"),
        ({"obj_label": ["B"]}, r"3 prompts and 1 letters"),
        ({"sentences": ["No options"], "obj_label": ["A"]}, r"'A' is not among.*none"),
        ({"relation_name": ""}, r"query two has no relation_name.*line 12.*there are: sentences"),
        (
            {"sentences": ["A. red\nB. red\nAnswer:"], "obj_label": ["A"]},
            r"options are equal or empty",
        ),
    ],
)
def test_bad_released_entries(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write_released(tmp_path, one=released(), two=released(**changes))
    line = next(i for i, t in enumerate(path.read_text().split("\n"), 1) if '"two"' in t)
    with pytest.raises(QuestionsError, match=message.replace("line 12", f"line {line}")):
        load_questions(path)


# --- tables --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "right"),
    [
        ("4", "auto", "4"),
        ("B", "auto", "4"),
        (0, "auto", "3"),
        (1, "index", "4"),
        (1, "index-from-1", "3"),
        ("1", "index", "4"),
        ("C", "label", "5"),
        ("5", "text", "5"),
    ],
)
def test_answers_as_text_label_or_position(
    tmp_path: Path, answer: object, kind: str, right: str
) -> None:
    path = write_rows(tmp_path, row(answer=answer))
    (question,) = load_questions(path, answer_kind=kind)  # pyright: ignore[reportArgumentType]
    assert question.right == right


def test_columns_are_mapped_and_options_may_be_columns(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('prompt,A,B,key,topic\n"2 + 2, say?",3,4,B,sums\nTwo?,2,1,A,sums\n')
    columns = {"question": "prompt", "options": ["A", "B"], "answer": "key", "field": "topic"}
    first, second = load_questions(path, columns=columns)
    assert (first.question, first.options, first.right) == ("2 + 2, say?", ("3", "4"), "4")
    assert (second.right, second.id) == ("2", "q-0002")


@pytest.mark.parametrize("options", ['"[""3"", ""4""]"', "3 | 4"])
def test_options_in_one_csv_column(tmp_path: Path, options: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text(f"question,options,answer,field\n2 + 2?,{options},4,sums\n")
    assert load_questions(path)[0].options == ("3", "4")


def test_written_questions_are_read_back_unchanged(tmp_path: Path) -> None:
    questions = [
        Question("a", "Which?", ("B", "A"), 1, "f", "de", ("1", "2"), "r", ("x", "y")),
        Question("b", "Which?\nNow?", ("A", "B", "C"), 0, "g"),
        replace(
            Question("c", "What?", ("x", "y"), 0, "g"),
            asked=(AskedForm("t", ("y", "x"), ("A", "B"), 1),),
            wordings=(ChoiceWording("{question}{options}", "{label}{option}", "n", False),),
        ),
    ]
    path = write_questions(questions, tmp_path / "deep" / "q.jsonl")
    assert load_questions(path) == questions
    assert [p.name for p in path.parent.iterdir()] == ["q.jsonl"]


def test_choice_of_fields_languages_and_numbers(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path,
        *(row(question=f"{f}{i}{lang}", field=f, language=lang)
          for f in "abc" for i in range(5) for lang in ("en", "de")),
    )  # fmt: skip
    chosen = load_questions(path, fields=("a", "b"), languages=["de"], per_field=2)
    assert [(q.field, q.language) for q in chosen] == [("a", "de")] * 2 + [("b", "de")] * 2
    assert load_questions(path, fields=("b", "a"), languages="de", per_field=2) == chosen
    by_seed = {
        tuple(q.id for q in load_questions(path, fields="a", per_field=2, seed=seed))
        for seed in range(8)
    }
    assert len(by_seed) > 3
    assert {q.field for q in with_language_as_field(chosen)} == {"de"}
    with pytest.raises(QuestionsError, match=r"field sky.*There are: a, b, c"):
        load_questions(path, fields=["sky"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(answer="6")], r"'6' is not among the options.*line 1"),
        ([row(answer=7)], r"'7' is not among the options"),
        ([row(), row(options=["4", "4"])], r"options are equal or empty \(.*line 2\)"),
        ([row(labels=["A", "A", "B"])], r"labels do not fit.*line 1"),
        ([row(labels=["A", "B"])], r"Each of the 3 options needs a label"),
        ([row(options=["4"])], r"at least two options"),
        ([row(field="")], r"a question without field"),
        ([row(), row()], r"the same question comes twice.*rows-0001 and rows-0002"),
        ([row(id="x"), row(id="x", question="3?")], r"same id"),
        ([{"prompt": "?", "answer": "x"}], r"no column question.*Columns there: prompt, answer"),
        ([row(options="[1,")], r"malformed list"),
        ([], r"the file is empty"),
    ],
)
def test_bad_rows(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(QuestionsError, match=message):
        load_questions(write_rows(tmp_path, *rows))


def test_bad_sources_and_column_mappings(tmp_path: Path) -> None:
    path = write_rows(tmp_path, row())
    with pytest.raises(QuestionsError, match=r"no column opts for 'options'.*question, options"):
        load_questions(path, columns={"options": "opts"})
    with pytest.raises(QuestionsError, match=r"unknown column choices.*Ours: question"):
        load_questions(path, columns={"choices": "options"})
    with pytest.raises(QuestionsError, match="unknown kind of answer"):
        load_questions(path, answer_kind="number")  # pyright: ignore[reportArgumentType]
    with pytest.raises(QuestionsError, match="no such file"):
        load_questions(tmp_path / "nowhere.jsonl")
    with pytest.raises(QuestionsError, match="this is a folder"):
        load_questions(tmp_path)


def test_several_fields_can_be_required() -> None:
    questions = [Question(str(i), "?", ("a", "b"), 0, f) for i, f in enumerate("xxy")]
    assert require_several_fields(questions) is questions
    with pytest.raises(QuestionsError, match=r"2 fields are needed, there is 1 \(x\)"):
        require_several_fields(questions[:2])


# --- options from facts and from other answers ---------------------------------------------


def test_options_from_facts_are_never_another_right_object() -> None:
    world = make_world()
    questions = build_questions(world, redraw=True, n_options=3)
    assert len(questions) == 16
    for q in questions:
        relation = world[q.relation]
        fact = next(f for f in relation.facts if q.id == f"{f.id}@en")
        assert q.right == fact.objects[0]
        assert set(q.options) & set(fact.objects) == {q.right}
        assert not set(q.pool) & set(fact.objects)
        assert set(q.options) <= {o for f in relation.facts for o in f.objects}
        assert q.question in {w.replace("{}", fact.subject) for w in relation.wordings()}
        assert q.field == relation.field
    assert len({q.answer for q in questions}) == 3
    assert build_questions(world, seed=1, n_options=3) != build_questions(world, n_options=3)


def test_distractors_of_the_subjects_other_relations() -> None:
    world = make_world()
    for q in build_questions(world, distractors="subject"):
        (subject,) = {f.subject for f in world.facts if q.id == f"{f.id}@en"}
        other = "country" if q.relation == "maker" else "maker"
        said = {o for f in world[other].facts if f.subject == subject for o in f.objects}
        assert said <= set(q.options)
        own = {o for f in world[q.relation].facts if f.subject == subject for o in f.objects}
        assert set(q.options) & own == {q.right}


def test_too_few_wrong_answers() -> None:
    with pytest.raises(QuestionsError, match=r"3 wrong answers are too few for 5 options"):
        build_questions(make_world().subset(["country"]), n_options=5)
    with pytest.raises(QuestionsError, match="at least two options"):
        build_questions(make_world(), n_options=1)
    with pytest.raises(QuestionsError, match="unknown kind of distractors"):
        build_questions(make_world(), distractors="field")  # pyright: ignore[reportArgumentType]


def test_free_form_answers_draw_wrong_ones_from_their_field(tmp_path: Path) -> None:
    rows = [
        {"question": f"{f} {i}?", "answer": f"{f}{i}", "field": f} for f in "xy" for i in range(6)
    ]
    rows[0]["distractors"] = ["one", "two", "three"]  # pyright: ignore[reportArgumentType]
    rows[1]["answer"] = ["x1", "x2"]  # pyright: ignore[reportArgumentType]
    questions = load_questions(write_rows(tmp_path, *rows), redraw=True)
    assert set(questions[0].options) == {"x0", "one", "two", "three"}
    assert questions[1].right == "x1"
    assert "x2" not in (*questions[1].options, *questions[1].pool)
    for q in questions[1:]:
        assert {o[0] for o in q.options} == {q.field}
        assert len(set(q.options)) == 4


def test_same_question_on_two_rows_shares_its_right_answers() -> None:
    rows = [OpenQuestion(str(i), "Same?", (a,), "f") for i, a in enumerate(("a", "b"))]
    rows += [OpenQuestion("2", "Other?", ("c",), "f")]
    questions = close_questions(rows, n_options=2)
    assert [set(q.options) for q in questions[:2]] == [{"a", "c"}, {"b", "c"}]


# --- the embedded questions and the wordings -----------------------------------------------


def test_embedded_questions_in_several_languages() -> None:
    questions = load_questions(
        "atlas", languages=("en", "ja"), fields=("music", "sky"), per_field=3
    )
    assert len(questions) == 2 * 2 * 3
    facts = [{q.id.split("@")[0] for q in questions if q.language == x} for x in ("en", "ja")]
    assert facts[0] == facts[1]
    prompts = render_question_prompts(questions)
    texts = {lang: {w.text for w in load_wordings("atlas")[lang]} for lang in ("en", "ja")}
    assert all(w.trained and w.text in texts[q.language] for q in questions for w in q.wordings)
    first = next(p for p in prompts if p.language == "en")
    assert first.text.endswith("\nAnswer:")


def test_own_wordings_are_three_per_language_and_different() -> None:
    for language, wordings in load_wordings().items():
        assert len({w.text for w in wordings}) == len({w.name for w in wordings}) == 3, language


@pytest.mark.parametrize(
    "text",
    [
        '[[en]]\ntext = "{question}"\noption = "{label}{option}"\n',
        '[[en]]\ntext = "{question}{options}{x}"\noption = "{label}{option}"\n',
        '[[en]]\ntext = "{question}{options}"\noption = "{label}"\n',
        '[en]\ntext = "{question}{options}"\n',
    ],
)
def test_bad_wordings(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.toml").write_text(text)
    with pytest.raises(QuestionsError, match="wording"):
        load_wordings(tmp_path / "w.toml")
