"""What a model says in words: cut at the end of its line, without markup."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broca.answers import said_line, spoken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" Paris", "Paris"),
        ("**Paris**", "Paris"),
        (" **Paris**.\n\nThe capital of", "Paris."),
        ("\n\nParis\nLondon", "Paris"),
        ("*Paris*, in _France_", "Paris, in France"),
        ("__Paris__", "Paris"),
        ("`Paris`", "Paris"),
        ("# Paris", "Paris"),
        ("- Paris\n- London", "Paris"),
        ("1. Paris", "Paris"),
        ("> Paris", "Paris"),
        ("<b>Paris</b><br>", "Paris"),
        ("[Paris](https://example.org)", "Paris"),
        ("**Answer:** Paris", "Paris"),
        ("Answer: Paris", "Paris"),
        ("“Paris”", "Paris"),
        ("**Par", "Par"),
        ("---\nParis", "Paris"),
        ("1879", "1879"),
        ("snake_case_name", "snake_case_name"),
        ("3 * 4 * 5", "3 * 4 * 5"),
        ("パリ\n", "パリ"),
        ("\n\n", ""),
        ("?!", ""),
    ],
)
def test_texts(text, said):
    assert spoken(text) == said


@given(st.text(max_size=60))
def test_any_text_gives_one_line_that_says_something_or_nothing(text):
    said = spoken(text)
    assert len(said.splitlines()) <= 1
    assert said == said.strip()
    assert spoken(f"\n\n{said}\nmore") == spoken(said) or not said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (" Paris\nLondon", "Paris"),
        ("\n\n**Paris**.\nThe capital", "**Paris**."),
        ("**\n1. Paris", "1. Paris"),
        ("---\n> Paris\n", "> Paris"),
        ("4. The next", "4. The next"),
        ("?!\n\n", "?!"),
        ("\n", ""),
    ],
)
def test_the_line_as_it_was_said(text, line):
    assert said_line(text) == line


@given(st.text(max_size=60))
def test_the_line_shown_is_the_line_read(text):
    assert spoken(said_line(text)) == spoken(text)
