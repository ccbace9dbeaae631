"""What counts as a text in a file, and which option an answer means: read right, or refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broca.errors import BrocaError, FactsError, QuestionsError
from broca.facts import Fact, load_relations
from broca.facts.reading import clean
from broca.questions import load_questions
from broca.questions.records import read_local
from broca.questions.rows import RowFormat, questions_from_rows
from broca.questions.which import Given, find_answers

TEMPLATES = '[capital]\ntemplates = ["The capital of {} is"]\n'
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def load_object(folder: Path, value: object) -> tuple[str, ...]:
    """The right objects of one fact written as JSONL."""
    (folder / "templates.toml").write_text(TEMPLATES, encoding="utf-8")
    row = {"subject": "France", "relation": "capital", "object": value}
    path = folder / "facts.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return load_relations(folder)["capital"].facts[0].objects


def load_cell(folder: Path, *cells: str) -> list[tuple[str, ...]]:
    """The right objects of facts written as CSV, one cell each."""
    (folder / "templates.toml").write_text(TEMPLATES, encoding="utf-8")
    path = folder / "facts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "relation", "object"])
        writer.writerows([f"s{number}", "capital", cell] for number, cell in enumerate(cells))
    return [fact.objects for fact in load_relations(path)["capital"].facts]


@pytest.mark.parametrize(
    ("value", "objects"),
    [
        ("Paris", ("Paris",)),
        ({"str": "Paris", "id": "Q90"}, ("Paris",)),
        ([{"str": "Paris", "id": "Q90"}, "Lutetia"], ("Paris", "Lutetia")),
        ('["Paris", "Lutetia"]', ("Paris", "Lutetia")),
        ('{"str": "Paris", "id": "Q90"}', ("Paris",)),
        (["Paris", "Paris "], ("Paris",)),
        (1969, ("1969",)),
        ([1969, "the year of the moon"], ("1969", "the year of the moon")),
        ("[sic]", ("[sic]",)),
        (["[1, 2]"], ("[1, 2]",)),
    ],
)
def test_known_forms_are_read_as_what_they_mean(
    tmp_path: Path, value: object, objects: tuple[str, ...]
) -> None:
    assert load_object(tmp_path, value) == objects
    if isinstance(value, str):
        assert load_cell(tmp_path, value) == [objects]


@pytest.mark.parametrize(
    "value",
    [
        1969.0,
        float("nan"),
        float("inf"),
        True,
        [None, "x"],
        ["x", ""],
        [["x"]],
        [],
        {"Paris": 1},
        {"str": 1.5},
        {"str": None},
        {"str": ["Paris"]},
        {"str": "Paris", "rank": 1},
        ["x", {"label": "y"}],
        [True],
        "['Paris', 'Lutetia']",
        "{'str': 'Paris'}",
        "b'Paris'",
        '["Paris", 1.5]',
        '["Paris"',
        "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path, value: object) -> None:
    with pytest.raises(FactsError, match=r"facts\.jsonl, line 1"):
        load_object(tmp_path, value)


def test_numbers_of_thousands_of_digits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "templates.toml").write_text(TEMPLATES)
    text = '{"subject": "x", "relation": "capital", "object": ' + "1" * 5000 + "}"
    (tmp_path / "facts.jsonl").write_text(text)
    with pytest.raises(FactsError, match="line 1"):
        load_relations(tmp_path)


def test_numbers_and_missing_values_of_pandas_are_told_from_texts(tmp_path: Path) -> None:
    assert load_cell(tmp_path, "2.0", "3.5") == [("2.0",), ("3.5",)]
    with pytest.raises(FactsError, match=r"not whole.*1969\.0.*line 2"):
        load_cell(tmp_path, "1969.0", "1970.0")
    with pytest.raises(FactsError, match=r"NaN.*line 3"):
        load_cell(tmp_path, "Paris", "nan")


def test_a_table_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "templates.toml").write_text(TEMPLATES)
    path = tmp_path / "facts.csv"
    long = "x" * 200_000
    path.write_text(f"subject,relation,object\nFrance,capital,{long}\n")
    assert load_relations(path)["capital"].facts[0].objects == (long,)
    for text, words in {
        'subject,relation,object\nFrance,capital,"Paris\n': r"malformed table.*line",
        "subject,relation,object,object\na,capital,b,c\n": r"two columns are called 'object'",
        "subject,relation,object\na,capital\n": r"2 columns, the first has 3.*line 2",
    }.items():
        path.write_text(text)
        with pytest.raises(FactsError, match=words):
            load_relations(path)
    facts = tmp_path / "facts.jsonl"
    facts.write_text('{"subject": "a", "relation": "capital", "object": "b", "object": "c"}')
    with pytest.raises(FactsError, match=r"'object' comes twice.*line 1"):
        load_relations(facts)


def test_facts_made_in_python_hold_texts() -> None:
    for objects in (("Paris", 1.0), "Paris", (None,)):
        with pytest.raises(FactsError, match="something else than texts"):
            Fact("France", "capital", objects)  # pyright: ignore[reportArgumentType]


def test_parquet_rows_hold_texts(tmp_path: Path) -> None:
    table = pa.table({"question": ["2?", "3?"], "answer": [b"x", b"y"], "field": ["f", "f"]})
    pq.write_table(table, tmp_path / "q.parquet")
    rows = [(where, "id", row) for where, row in read_local(tmp_path / "q.parquet", None)]
    with pytest.raises(QuestionsError, match=r"kind bytes.*row 0"):
        questions_from_rows(rows, RowFormat())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def means(value: object) -> tuple[str, ...] | None:
    """The slow twin: the texts a JSON value means, None where it is to be refused."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        return None  # lists in cells have tests of their own
    items = value if isinstance(value, list) else [value]
    texts = []
    for item in items:
        if isinstance(item, dict) and "str" in item and set(item) <= {"str", "id"}:
            item = item["str"]
        if isinstance(item, bool) or not isinstance(item, str | int):
            return None
        texts.append(clean(str(item)))
    return tuple(dict.fromkeys(texts)) if texts and all(texts) else None


@quick
@given(value=json_values)
def test_no_value_is_read_that_is_no_text_or_whole_number(tmp_path: Path, value: Any) -> None:
    expected = means(value)
    try:
        found = load_object(tmp_path, value)
    except BrocaError:
        found = None
    if expected is not None and not any("'" in text for text in expected):
        assert found == expected
    elif found is not None:
        assert isinstance(value, str)  # a text for itself


# --- which option is right -----------------------------------------------------------------


def load_rights(folder: Path, *rows: dict[str, Any], **options: Any) -> list[str]:
    path = folder / "rows.jsonl"
    base = {"question": "Which?", "field": "f"}
    lines = [
        json.dumps({**base, "id": f"q{i}", "question": f"{i}?", **r}) for i, r in enumerate(rows)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return [question.right for question in load_questions(path, **options)]


BLOOD: dict[str, Any] = {"options": ["O", "A", "B", "AB"], "answer": "B"}
DIGITS: dict[str, Any] = {"options": [2, 3, 1, 0], "answer": 2}


def test_two_meanings_are_refused_and_both_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match=r"'B' may mean 'B'.*or 'A'.*line 1.*answer_kind"):
        load_rights(tmp_path, BLOOD)
    assert load_rights(tmp_path, BLOOD, answer_kind="text") == ["B"]
    assert load_rights(tmp_path, BLOOD, answer_kind="label") == ["A"]
    with pytest.raises(QuestionsError, match=r"'2' may mean '2'.*or '1'"):
        load_rights(tmp_path, DIGITS)
    assert load_rights(tmp_path, DIGITS, answer_kind="text") == ["2"]
    assert load_rights(tmp_path, DIGITS, answer_kind="index") == ["1"]
    assert load_rights(tmp_path, DIGITS, answer_kind="index-from-1") == ["3"]
    assert load_rights(tmp_path, {**BLOOD, "answer_kind": "label"}) == ["A"]


def test_other_rows_of_the_file_may_settle_it(tmp_path: Path) -> None:
    words = {"options": ["w", "x", "y", "z"]}
    assert load_rights(tmp_path, BLOOD, {**words, "answer": "C"}) == ["A", "y"]
    assert load_rights(tmp_path, BLOOD, {**words, "answer": "y"}) == ["B", "y"]
    assert load_rights(tmp_path, *({**words, "answer": n} for n in (2, 0))) == ["y", "w"]
    assert load_rights(tmp_path, *({**words, "answer": n} for n in (2, 4))) == ["x", "z"]
    with pytest.raises(QuestionsError, match=r"'2' may mean 'y'.*or 'x'"):
        load_rights(tmp_path, *({**words, "answer": n} for n in (2, 3)))
    with pytest.raises(QuestionsError, match=r"'2' may mean"):
        load_rights(tmp_path, *({**words, "answer": n} for n in (2, 0, 4)))


@pytest.mark.parametrize("answer", [True, 1.0, None, ["B"], {"B": 1}, -1, "²"])
def test_answers_that_are_none(tmp_path: Path, answer: object) -> None:
    with pytest.raises(QuestionsError, match="line 1"):
        load_rights(tmp_path, {"options": ["x", "y", "z"], "answer": answer})


def test_a_mapping_is_no_list_of_options(tmp_path: Path) -> None:
    for options in ({"A": "x", "B": "y"}, '{"A": "x", "B": "y"}', 3, [["x"], ["y"]], True):
        with pytest.raises(QuestionsError, match="line 1"):
            load_rights(tmp_path, {"options": options, "answer": "x"})


options_and_answers = st.lists(
    st.tuples(
        st.lists(st.sampled_from("ABCD0123xy"), min_size=2, max_size=4, unique=True),
        st.sampled_from("ABCD0123xy"),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(rows=options_and_answers)
def test_no_ambiguous_option_is_accepted(rows: list[tuple[list[str], str]]) -> None:
    given_rows = [Given(answer, tuple(options), (), "here") for options, answer in rows]
    slow = []  # kind -> the options it gives, row by row; None where it gives none
    for options, answer in rows:
        letters = dict(zip("ABCD", range(len(options)), strict=False))
        places = {str(i): i for i in range(len(options))}
        ones = {str(i + 1): i for i in range(len(options))}
        texts = {option: i for i, option in enumerate(options)}
        slow.append([kind.get(answer) for kind in (texts, letters, places, ones)])
    whole = [kind for kind in range(4) if all(row[kind] is not None for row in slow)]
    meanings = [
        {row[kind] for kind in (whole or range(4)) if row[kind] is not None} for row in slow
    ]
    if all(len(meaning) == 1 for meaning in meanings):
        assert find_answers(given_rows) == [next(iter(meaning)) for meaning in meanings]
    else:
        with pytest.raises(QuestionsError):
            find_answers(given_rows)
