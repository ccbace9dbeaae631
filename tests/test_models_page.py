"""docs/models.md is what is measured, and every causal type passes the arithmetic or is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from broca.cli.families import models_page
from broca.errors import BrocaError
from broca.model import LanguageModel
from broca.model.families import KNOWN, build_tiny, causal_types, survey
from tiny import tiny_tokenizer

PAGE = Path(__file__).parent.parent / "docs" / "models.md"


def test_the_page_lists_every_known_family():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    listed = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    assert tuple(listed) == KNOWN
    assert len(KNOWN) >= 45


@pytest.mark.parametrize("family", ["llama", "openai-gpt", "qwen3_moe", "nemotron_h"])
def test_rows_of_the_page_are_what_is_measured(family):
    line = next(x for x in models_page([family]).splitlines() if x.startswith(f"| {family} |"))
    assert line in PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_the_page_is_what_is_measured():
    assert PAGE.read_text(encoding="utf-8") == models_page()


@pytest.mark.slow
def test_every_causal_type_works_or_is_refused_in_one_sentence():
    """Nothing but an error of broca's own, and no type that is built stays without an answer."""
    rows = list(survey(causal_types(), tiny_tokenizer()))
    counts = Counter(row.outcome for row in rows)
    assert counts["works"] >= 140, counts
    assert counts["not built"] <= 4, counts
    for row in rows:
        assert row.outcome == "works" or (row.note and "\n" not in row.note), row


def test_a_refusal_is_one_sentence():
    for family in ("mamba", "bert", "jetmoe"):
        with pytest.raises(BrocaError) as caught:
            LanguageModel(build_tiny(family), tiny_tokenizer())
        assert len(str(caught.value).splitlines()) == 1
