"""Names as file names: safe on every file system, told apart there, and read back."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broca.errors import RunError
from broca.store import file_name, name_of

HARD = [
    "a/b",
    "a:b",
    "..",
    ".",
    "x.",
    "CON",
    "con",
    "nul",
    " a ",
    "a" * 300,
    "ÄÖ",
    "国",
    "a%2fb",
    "~",
]


@given(name=st.text(min_size=1))
def test_a_name_is_read_back(name: str) -> None:
    assert name_of(file_name(name, ".json"), ".json") == name


@pytest.mark.parametrize(
    "name", [*HARD, "A" * 300, "\0", "\ud800", "+", "a~1", "-rf", "COM1", "a b"]
)
def test_hard_names_are_safe_and_read_back(name: str) -> None:
    path = file_name(name, ".json")
    assert name_of(path, ".json") == name
    for part in path.parts:
        assert len(part.encode()) < 200
        assert re.fullmatch(r"[A-Za-z0-9_%~+-][A-Za-z0-9_ %~+-]*(\.json)?", part)
        assert part == part.strip()
        assert part.removesuffix(".json").lower() not in {"con", "prn", "aux", "nul", "com1"}


@given(one=st.text(min_size=1), other=st.text(min_size=1))
@example(one="capital", other="Capital")
@example(one="aB", other="Ab")
@example(one="straße", other="STRASSE")
def test_different_names_are_different_files_whatever_the_case(one: str, other: str) -> None:
    same = str(file_name(one)).casefold() == str(file_name(other)).casefold()
    assert same == (one == other)


def test_plain_names_stay_and_empty_ones_are_refused() -> None:
    assert str(file_name("company_ceo", ".json")) == "company_ceo.json"
    assert str(file_name("P17", ".json")) == "P17~1.json"
    with pytest.raises(RunError, match="empty"):
        file_name("")
