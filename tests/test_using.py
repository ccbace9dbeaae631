"""The page on one's own facts is true: its files are read, its figures follow."""

from __future__ import annotations

import re
from math import comb
from pathlib import Path

from broca.answers import MATCHES
from broca.facts import load_relations
from broca.prompts import render_fact_prompts

PAGE = (Path(__file__).parent.parent / "docs" / "using.md").read_text(encoding="utf-8")


def fenced(kind: str) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0]


def test_its_facts_and_wordings_are_read(tmp_path: Path):
    (tmp_path / "facts.csv").write_text(fenced("csv"), encoding="utf-8")
    (tmp_path / "facts.toml").write_text(fenced("toml"), encoding="utf-8")
    relations = load_relations(tmp_path / "facts.csv")
    assert relations["born in"].facts[0].objects == ("Warsaw", "Warszawa")
    prompts = render_fact_prompts(relations, form="cloze")
    assert "Marie Curie was born in" in [prompt.text for prompt in prompts]


def test_its_matches_are_all_there_are():
    assert set(MATCHES) == set(re.findall(r"^\| `(auto|prefix|whole)` \|", PAGE, re.MULTILINE))


def test_its_odds_are_right():
    odds = re.findall(r"1 in\s+([\d,]+) for (?:n = )?(\d)\b", PAGE)
    assert len(odds) == 3
    for told, n in odds:
        assert comb(5 * int(n), int(n)) == int(told.replace(",", ""))
