"""Flips on made-up rows: both ways, their intervals, and the words for too few of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.studies.queries import QueriesConfig
from broca.studies.queries.effects import Key
from broca.studies.queries.flip_words import flip_words
from broca.studies.queries.flips import Flips, _paired, _records, estimate_share


class _Rows(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.correct)


def rows_of(before: str, after: str) -> Any:
    """Outcomes, "+" for right and "-" for wrong."""
    made = {"correct_before": before, "correct": after}
    return _Rows(**{name: np.array([sign == "+" for sign in text]) for name, text in made.items()})


def test_both_actions_flip_their_own_way() -> None:
    config = QueriesConfig(methods=("na-ica", "random"))
    untouched = [rows_of("+--", "+--"), rows_of("++-", "++-")]
    edited = {
        Key("na-ica", "boost", "related", "a"): rows_of("+--", "-+-"),
        Key("na-ica", "suppress", "related", "a"): rows_of("+--", "---"),
        Key("na-ica", "suppress", "related", "b"): rows_of("++-", "--+"),
        Key("na-ica", "suppress", "matched", "b"): rows_of("++-++-", "++--+-"),
    }
    flips = Flips.of(("a", "b"), untouched, edited, config)
    assert flips.candidates("boost").tolist() == [2, 1]
    assert flips.candidates("suppress").tolist() == [1, 2]
    assert flips.wanted["na-ica", "boost"].tolist() == [1, 0]
    assert flips.against["na-ica", "boost"].tolist() == [1, 0]
    assert flips.wanted["na-ica", "suppress"].tolist() == [1, 2]
    assert flips.against["na-ica", "suppress"].tolist() == [0, 1]
    matched = flips.matched["na-ica", "suppress"]
    assert np.isnan(matched[0])  # no neurons, no matched ones
    assert matched[1] == 0.5  # one flip over two draws
    assert flips.wanted["random", "boost"].tolist() == [0, 0]  # no neurons, no flips


def test_shares_that_resampling_cannot_bound_get_exact_intervals() -> None:
    config = QueriesConfig(n_resamples=200)
    two = np.full(40, 2.0)
    none, every = (estimate_share(flips, two, config) for flips in (np.zeros(40), two))
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 40))
    assert (every.low, every.high) == (pytest.approx(0.025 ** (1 / 40)), 1.0)
    some = estimate_share(np.repeat([0.0, 1.0], 20), two, config)
    assert 0.1 < some.low < some.value == 0.25 < some.high < 0.4


def test_versions_of_a_question_are_no_further_evidence() -> None:
    """Flips of 12 questions, and the same of three translations each: the same p, interval, n."""
    config = QueriesConfig(methods=("na-ica", "random"), n_resamples=500, n_permutations=2000)
    rng = np.random.default_rng(1)
    wrong = rng.integers(0, 3, 12).astype(float)
    table = {
        (method, action): np.minimum(rng.binomial(2, share, 12), wrong)
        for method, share in (("na-ica", 0.6), ("random", 0.2))
        for action in ("boost", "suppress")
    }
    matched = {kind: np.full(12, 0.3) for kind in table}

    def made(n: int, groups: list[int]) -> Flips:
        tables = (table, table, matched)
        repeated = ({kind: np.repeat(v, n) for kind, v in one.items()} for one in tables)
        labels = np.array(groups, dtype=object)
        return Flips(np.full(12 * n, 4.0), np.repeat(wrong, n), *repeated, groups=labels)

    each, thrice = made(1, list(range(12))), made(3, [i // 3 for i in range(36)])
    for one, three in zip(
        [*_records("all", each, config), *_paired(each, config)],
        [*_records("all", thrice, config), *_paired(thrice, config)],
        strict=True,
    ):
        assert three["n"] == 3 * one["n"]
        assert three["groups"] == one["groups"] == one["n"]
        for name in ("rate_low", "rate_high", "share_low", "share_high", "p_matched"):
            assert three.get(name) == pytest.approx(one.get(name))
        for name in ("gap_low", "gap_high", "p", "p_holm"):
            assert three.get(name) == pytest.approx(one.get(name))
    none = np.zeros(36)
    few = estimate_share(none, none + 4, config, groups=thrice.groups)
    assert few.high == pytest.approx(1 - 0.025 ** (1 / 12))
    words = flip_words(_records("all", thrice, config), [], 0.05, near=False)
    assert f"versions of {(wrong > 0).sum()} questions" in words[0]


def flip_record(**changes: Any) -> dict[str, Any]:
    record = {"method": "na-ica", "action": "boost", "queries": 40, "n": 30, "prompts": 80}
    record |= {"candidates": 50, "rate": 0.2, "rate_low": 0.1, "rate_high": 0.3}
    record |= {"share": 0.12, "share_low": 0.1, "share_high": 0.2, "against": 0.0}
    return record | changes


def test_words_say_when_there_are_too_few_wrong_answers() -> None:
    pair = {"action": "boost", "method": "na-ica", "other": "random", "p_holm": 0.01}
    paired = [pair | {"gap_low": 0.1, "gap_high": 0.3}]
    enough = flip_words([flip_record()], paired, 0.05, near=False)
    assert "flips more than random" in enough[-1]
    few = flip_words([flip_record(n=4)], paired, 0.05, near=False)
    assert "Only 4 of 40 queries" in few[-1]
    none = flip_words([flip_record(n=0, candidates=0, rate=None)], [], 0.05, near=False)
    assert "No prompt is answered wrongly" in none[0]
    near = flip_words([flip_record()], paired, 0.05, near=True)
    assert "near chance" in near[0]
    assert not any("more than random" in text for text in near)
