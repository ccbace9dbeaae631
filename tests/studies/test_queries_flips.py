"""Flips: equal to a plain count over rows, both ways, on planted and made-up rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from broca.report.parts import figure
from broca.report.parts.study import find_report
from broca.report.runs import write_report
from broca.report.stored_run import StoredRun
from broca.run import execute, read_job
from broca.store import RunFolder
from broca.studies.queries import QueriesConfig
from broca.studies.queries.effects import Key
from broca.studies.queries.flip_words import flip_words
from broca.studies.queries.flips import Flips, _paired, _records, estimate_share
from planted_run import APPLICATIONS, tables
from query_files import rows, write_rows
from tiny import tiny_model


def own_rows(run: RunFolder, method: str, factor: float) -> list[dict[str, Any]]:
    """Rows of every query's own prompts with its own neurons by a method scaled.

    Methods that choose the same neurons share their rows, so these are looked up by what was asked.
    """
    asked = run.read_json("conditions.json")
    stored = {(r["condition"], r["prompt"]): r for r in run.rows.read().to_pylist()}
    found = []
    for one in asked["conditions"]:
        query = one["prompts"].removeprefix("query/")
        own = one["study"] == "queries.flips" and one["set"] == f"{query}/{method}"
        if own and one["factor"] == factor and not one["control"]:
            prompts = asked["groups"]["queries.flips"][one["prompts"]]
            pairs = [(key, prompt) for key in one["keys"] for prompt in prompts]
            found += [stored[pair] for pair in pairs if pair in stored]
    return found


def test_flips_equal_a_plain_count_over_rows(planted_applications: RunFolder) -> None:
    found = [
        r for r in tables(planted_applications, "queries.flips")["flips"] if r["field"] == "all"
    ]
    assert {(r["method"], r["action"]) for r in found} == {
        (method, action) for method in APPLICATIONS["methods"] for action in ("boost", "suppress")
    }
    for record in found:
        factor, before = {"boost": (2.0, False), "suppress": (0.0, True)}[record["action"]]
        here = own_rows(planted_applications, record["method"], factor)
        could = [r for r in here if r["correct_before"] == before]
        flipped = [r for r in could if r["correct"] != before]
        assert len(here) == record["prompts"]
        assert record["flips"] == len(flipped)
        assert record["candidates"] == len(could)
        assert record["share"] == pytest.approx(len(flipped) / len(here))
        if could:
            assert record["rate"] == pytest.approx(len(flipped) / len(could))
        else:
            assert record["rate"] is None
        back = [r for r in here if r["correct_before"] != before and r["correct"] == before]
        assert record["against"] == pytest.approx(len(back) / len(here))


def test_flips_share_every_row_with_the_effect(planted_applications: RunFolder) -> None:
    assert "queries.flips" not in set(planted_applications.rows.read().column("study").to_pylist())
    assert tables(planted_applications, "queries.flips")["flips"][0]["prompts"] > 0


def test_suppressing_own_neurons_flips_right_answers_and_random_ones_do_not(
    planted_applications: RunFolder,
) -> None:
    figures = planted_applications.summary
    own = "queries.flips.na-ica.suppress"
    assert figures[f"{own}.rate.low"] > 0.2
    assert figures[f"{own}.matched"] < 0.1
    assert figures[f"{own}.p_matched"] < 0.01
    assert figures[f"{own}.beyond_random.low"] > 0.1
    assert figures["queries.flips.random.suppress.rate"] < 0.1
    words = planted_applications.read_json("findings.json")["queries.flips"]["words"]
    assert any("No prompt is answered wrongly" in text for text in words)  # it knows all of them
    assert any("More than random neurons: na-ica" in text for text in words)


def test_suppression_alone_is_half_of_the_claim(planted_applications: RunFolder) -> None:
    report = find_report("queries.flips")
    assert report is not None
    (answer,) = report.answers(StoredRun(planted_applications), "queries.flips")
    assert answer.answer == "In part"
    assert "boosted (× 2): no prompt is answered wrongly" in answer.detail
    assert "suppressed (× 0), " in answer.detail


def test_the_page_shows_both(
    planted_applications: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    svg = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: svg)
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([planted_applications], tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (
        "Knowledge editing at inference, by field",
        "Flips by method",
        "published: of all, Llama-2-7B-chat",
        "18.2 %",
        "Prediction by neurons",
        "biology (published)",
        "Do query neurons flip answers, by field?",
        "Do a field&#39;s neurons predict answers?",
    ):
        assert text in page, text


def test_a_model_that_knows_nothing_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny and random, in two languages: no conclusions, no crash, and a page."""
    listed = [{**row, "language": "de" if i // 2 % 2 else "en"} for i, row in enumerate(rows(2, 8))]
    path = write_rows(tmp_path / "questions.jsonl", listed)
    studies = ["queries.flips", "queries.flips.languages", "queries.prediction"]
    options = {**APPLICATIONS, "n_prompts": 1, "u": 0.9, "studies": studies, "questions": str(path)}
    done = execute(read_job(options), tmp_path / "run", model=tiny_model("llama"), report=False)
    for study in ("queries.flips", "queries.prediction"):
        assert "near chance" in " ".join(done.read_json("findings.json")[study]["words"])
    assert "queries.flips.languages.na-ica.suppress.share" in done.summary
    # asked by language too, prompts keep their field of knowledge
    asked = [prompt for prompt in done.prompts().values() if prompt["language"] == "en"]
    assert {prompt["field"] for prompt in asked} == {"field0", "field1"}
    monkeypatch.setattr(figure.vlc, "vegalite_to_svg", lambda chart: "<svg/>")
    monkeypatch.setattr(figure.Figure, "file", lambda self, kind: b"drawn")
    page = write_report([done], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "This run cannot tell" in page


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
