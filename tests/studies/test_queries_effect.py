"""Effects of query neurons: equal to plain formulas, versions of a question counted once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.errors import QuestionsError
from broca.prompts import ChoicePrompt
from broca.questions import Question
from broca.studies.queries import QueriesConfig
from broca.studies.queries.effect_words import effect_words
from broca.studies.queries.effects import Effects, compare, describe
from broca.studies.queries.material import Material, Part, check_fields
from broca.studies.queries.screening import screen
from broca.studies.study import Results
from query_files import rows, write_rows
from tiny import tiny_model

# ---- statistics


def made_effects(n: int = 12, seed: int = 0) -> Effects:
    rng = np.random.default_rng(seed)
    means = {
        ("na-ica", "related"): -0.6,
        ("na-ica", "unrelated"): -0.1,
        ("random", "related"): 0.0,
        ("random", "unrelated"): 0.0,
        ("na-ica", "matched"): 0.0,
    }
    tables = {
        (method, "suppress", kind): mean + 0.1 * rng.standard_normal(n)
        for (method, kind), mean in means.items()
    }
    return Effects(tuple(map(str, range(n))), tables, tables)


def test_figures_equal_the_plain_formulas() -> None:
    effects = made_effects()
    record = describe(effects, "na-ica", "suppress", seed=0, n_resamples=400, n_permutations=400)
    related, other = effects.pair("na-ica", "suppress")
    assert record["related"] == pytest.approx(related.mean())
    assert record["difference"] == pytest.approx(abs(related.mean()) - abs(other.mean()))
    assert record["pcr"] == pytest.approx(abs(related.mean()) / abs(other.mean()))
    for name in ("related", "unrelated", "difference", "pcr"):
        assert record[f"{name}_low"] <= record[name] <= record[f"{name}_high"]
    assert record["p_matched"] < 0.01
    paired = compare(
        effects, "suppress", "na-ica", "random", seed=0, n_resamples=400, n_permutations=400
    )
    gap = (
        record["difference"]
        - abs(abs(effects.pair("random", "suppress")[0].mean()))
        + abs(effects.pair("random", "suppress")[1].mean())
    )
    assert paired["gap"] == pytest.approx(gap)
    assert paired["gap_low"] > 0
    assert paired["p"] < 0.02
    same = compare(
        effects, "suppress", "na-ica", "na-ica", seed=0, n_resamples=50, n_permutations=50
    )
    assert (same["gap"], same["p"]) == (0.0, 1.0)


def test_versions_of_a_question_are_drawn_and_flipped_together() -> None:
    effects = made_effects(12)
    thrice = {kind: np.repeat(values, 3) for kind, values in effects.relative.items()}
    names = tuple(f"{query}@{language}" for query in effects.queries for language in "abc")
    bases = tuple(name[:-2] for name in names)
    together, apart = (Effects(names, thrice, thrice, groups) for groups in (bases, None))
    options: dict[str, int] = {"seed": 0, "n_resamples": 400, "n_permutations": 400}
    one, three, many = (
        describe(e, "na-ica", "suppress", **options) for e in (effects, together, apart)
    )
    assert (one["n"], one["groups"], three["n"], three["groups"]) == (12, 12, 36, 12)
    for name, value in one.items():
        if isinstance(value, float):
            assert three[name] == pytest.approx(value), name
    assert many["related_high"] - many["related_low"] < 0.8 * (
        one["related_high"] - one["related_low"]
    )
    assert many["p_matched"] != one["p_matched"]
    pair = ("suppress", "na-ica", "random")
    first, both = (compare(e, *pair, **options) for e in (effects, together))
    assert [both[k] for k in ("gap_low", "gap_high", "p")] == pytest.approx(
        [first[k] for k in ("gap_low", "gap_high", "p")]
    )
    keep = np.arange(36) % 3 == 0
    assert describe(together.where(keep), "na-ica", "suppress", **options) == one
    said = effect_words([three], [], {"near_chance": True}, 0.05, "language")
    assert "n = 36 queries, versions of 12 questions" in said[0]


def test_the_accuracy_counts_versions_of_a_question_once() -> None:
    languages = ("en", "de", "fr")
    right = {f"q{i}@{one}": i % 3 > 0 for i in range(12) for one in languages}
    questions = {name: Question(name, "?", ("a", "b"), 0, name[-2:], name[-2:]) for name in right}
    prompt = ChoicePrompt("p", "?", ("A",))
    asked: Any = {
        name: [SimpleNamespace(correct=value, prompt=prompt)] for name, value in right.items()
    }
    nothing: Any = None
    screened = screen(questions, asked)
    part = Part("languages", "letters", questions, asked, {}, nothing, screened)
    found, single = part.accuracy(), part.accuracy("en")
    assert part.chance() == 0.5
    assert (found.n, single.n) == (12, 12)
    assert (found.low, found.high) == pytest.approx((single.low, single.high))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("C", "D", "C++", "C#"), r"'C' and 'C\+\+' have the same name in figures"),
        (("a b", "a_b"), "'a b' and 'a_b'"),
        (("art", "all"), "cannot be called 'all'"),
    ],
)
def test_fields_whose_figures_would_collide_are_refused(fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(QuestionsError, match=said):
        check_fields(fields)
    check_fields(["law", "law", "law-2", "law 3", "數學"])


def test_a_part_of_colliding_fields_is_not_made(tmp_path: Path) -> None:
    listed = [{**row, "field": ("C++", "C#")[i % 2]} for i, row in enumerate(rows())]
    path = write_rows(tmp_path / "questions.jsonl", listed)
    bench: Any = SimpleNamespace(model=tiny_model("gpt2"))
    with pytest.raises(QuestionsError, match="same name in figures"):
        Material(QueriesConfig(questions=str(path))).part("field", bench)


def test_matched_sets_of_empty_sets_are_left_out() -> None:
    effects = made_effects()
    effects.relative["na-ica", "suppress", "matched"][3] = np.nan
    record = describe(effects, "na-ica", "suppress", seed=0, n_resamples=50, n_permutations=50)
    assert np.isfinite(record["matched"])


def test_an_empty_set_has_no_effect() -> None:
    effects = Effects.of(("q0", "q1"), {}, Results({}, {}), ("na-ica", "na"), ("boost",))
    assert (effects.methods, effects.actions) == (("na-ica", "na"), ("boost",))
    record = describe(effects, "na", "boost", seed=0, n_resamples=50, n_permutations=50)
    assert (record["related"], record["difference"]) == (0.0, 0.0)
    assert np.isnan(record["pcr"])


def word_records(**pcr: float) -> list[dict[str, Any]]:
    return [
        {
            "method": name.replace("_", "-"),
            "action": "suppress",
            "n": 9,
            "related": -value / 10,
            "related_low": -1.0,
            "related_high": 0.0,
            "unrelated": -0.1,
            "unrelated_low": -0.2,
            "unrelated_high": 0.0,
            "difference": value / 10 - 0.1,
            "difference_low": 0.0,
            "difference_high": 1.0,
            "pcr": value,
            "pcr_low": 0.0,
            "pcr_high": float("inf"),
        }
        for name, value in pcr.items()
    ]


def test_the_papers_order_is_told_from_the_numbers() -> None:
    known = {"near_chance": False}
    as_paper = effect_words(word_records(na_ica=5.0, na=3.0, random=1.0), _paired(), known, 0.05)
    assert "by |Related| − |Unrelated| the methods stand in the paper's order" in as_paper[-1]
    other = effect_words(word_records(na_ica=2.0, na=3.0, random=1.0), _paired(), known, 0.05)
    assert "not reproduced: na stands before NA-ICA (na, na-ica, random)" in other[-1]
    near = effect_words(
        word_records(na_ica=2.0, na=3.0, random=1.0), _paired(), {"near_chance": True}, 0.05
    )
    assert len(near) == 1  # numbers, no conclusion
    assert "changes the probability" in near[0]


def _paired() -> list[dict[str, Any]]:
    return [
        {"method": m, "action": "suppress", "gap_low": low, "gap_high": high, "p_holm": 0.01}
        for m, low, high in (("na", -1.0, 1.0), ("random", 0.1, 1.0))
    ]
