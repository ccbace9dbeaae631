"""Drafts change no answer, only how many passes it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from broca.interventions import Scale
from broca.neurons import NeuronIndex, uniform_random
from broca.play.answering import Row, answer_rows, chosen_answer
from broca.play.before import Before
from broca.play.drafts import Drafts, filled, width
from play.plain_play import PROMPT, answer_alone

TEXT = f"{PROMPT}? Answer:"
ROOM = 10


@pytest.fixture(scope="module")
def changes(model):
    """Untouched, and five changes under which the answers differ, two of them at the end alone."""
    index = NeuronIndex(model.identity, ("gate", "up", "hidden"))
    hit = [uniform_random(index, 600, seed, name="hit") for seed in (0, 1)]
    made = [(0, 3, "all"), (0, -2, "all"), (0, 8, "last"), (1, -2, "answer"), (1, 8, "last")]
    return [[], *([Scale(hit[one], factor, where)] for one, factor, where in made)]


@pytest.fixture(scope="module")
def loop(model, changes) -> list[Row]:
    """Token by token, every row: first by whole passes of one row, then beside each other."""
    assert model.drive.caches
    found = answer_rows(model, TEXT, (), changes, n_tokens=ROOM)
    for row, own in zip(found, changes, strict=True):
        _, said, _ = answer_alone(model, TEXT, (), own, ROOM)
        assert [one.id for one in row.said] == said[: len(row.said)]
    assert len({row.text for row in found}) > 3
    return found


def same(found: Sequence[Row], expected: Sequence[Row]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert [said.id for said in one.said] == [said.id for said in other.said]
        assert one.text == other.text
        assert one.rank == other.rank
        assert one.log_p == pytest.approx(other.log_p, abs=1e-4)
        torch.testing.assert_close(one.next, other.next, atol=1e-5, rtol=1e-4)
        for said, spoken in zip(one.said, other.said, strict=True):
            assert said.p == pytest.approx(spoken.p, abs=1e-5)
            shown = [p for _, p in spoken.instead]
            assert [p for _, p in said.instead] == pytest.approx(shown, abs=1e-5)


KNOWN: dict[str, Callable[[list[list[int]]], list[list[int]]]] = {
    "their own": lambda said: said,
    "longer than there is room": lambda said: [[*one, 7, 8, 9, 10] * 3 for one in said],
    "of each other": lambda said: [*said[1:], said[0]],
    "of the first row alone": lambda said: said[:1],
    "right at first": lambda said: [[*one[:2], 5, *one[3:]] for one in said],
    "wrong": lambda said: [[5, 6, 7] for _ in said],
    "of some rows": lambda said: [one if row % 2 else [] for row, one in enumerate(said)],
    "empty": lambda said: [[] for _ in said],
}


@pytest.mark.parametrize("way", ["cache", "one token behind a cache", "whole prompts"])
@pytest.mark.parametrize("kind", KNOWN)
def test_whatever_the_drafts_are_answers_are_the_same(
    model, changes, loop: list[Row], monkeypatch, kind: str, way: str
):
    if way == "whole prompts":
        monkeypatch.setattr(type(model.drive), "caches", property(lambda self: False))
    if way == "one token behind a cache":
        monkeypatch.setattr("broca.play.answering.check_continuations", lambda model: False)
    known = KNOWN[kind]([[one.id for one in row.said] for row in loop])
    ids = model.encode([TEXT])[0]
    found = answer_rows(model, TEXT, (), changes, n_tokens=ROOM, before=Before(ids=ids, said=known))
    same(found, loop)


@pytest.mark.parametrize("n_tokens", [1, 2, 4])
def test_a_draft_says_no_more_than_is_asked_for(model, changes, loop: list[Row], n_tokens: int):
    known = [[one.id for one in row.said] for row in loop]
    before = Before(ids=model.encode([TEXT])[0], said=known)
    found = answer_rows(model, TEXT, (), changes, n_tokens=n_tokens, before=before)
    same(found, answer_rows(model, TEXT, (), changes, n_tokens=n_tokens))
    assert max(len(row.said) for row in found) == n_tokens


def test_a_prompt_that_stays_takes_few_passes(model, changes, loop: list[Row], passes):
    """Asked again; with another chosen answer; with other changes of which most say the same."""
    before = Before()
    answer_rows(model, TEXT, (), changes, n_tokens=ROOM, before=before)
    lengths = sorted(len(row.said) for row in loop)
    assert len(passes) == lengths[-1]
    for text in ("", "Canis Minor", loop[0].text):
        answer = chosen_answer(model, TEXT, text)
        passes.clear()
        found = answer_rows(model, TEXT, answer, changes, n_tokens=ROOM, before=before)
        assert len(passes) <= 1 + lengths[-1] - lengths[len(lengths) // 2]
        same(found, answer_rows(model, TEXT, answer, changes, n_tokens=ROOM))
    longest = max(range(len(loop)), key=lambda row: len(loop[row].said))
    others = [[], changes[longest], [], [], []]
    passes.clear()
    found = answer_rows(model, TEXT, (), others, n_tokens=ROOM, before=before)
    assert len(passes) < lengths[-1]
    same(found, answer_rows(model, TEXT, (), others, n_tokens=ROOM))


@pytest.fixture
def passes(model, monkeypatch) -> list[tuple[int, ...]]:
    """Rows and tokens of every pass."""
    assert model.drive.caches
    made: list[tuple[int, ...]] = []
    plain = type(model).run

    def run(self, batch, **options):
        made.append(tuple(batch.ids.shape))
        return plain(self, batch, **options)

    monkeypatch.setattr(type(model), "run", run)
    return made


def test_drafts_are_those_of_the_same_prompt(model):
    before = Before()
    answer_rows(model, TEXT, (), [[], []], n_tokens=3, before=before)
    ids = model.encode([TEXT])[0]
    assert before.drafts(ids).known == before.said
    assert before.said[0] == before.said[1]
    assert not before.drafts(ids[:-1]).known

    def leave(said: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        answer_rows(model, PROMPT, (), [[]], n_tokens=9, between=leave, before=before)
    assert not before.drafts(model.encode([PROMPT])[0]).known  # it was not answered


def test_a_draft_goes_on_from_what_was_said():
    drafts = Drafts([[1, 2, 3], [4, 5], [4, 6, 7]])
    assert drafts.of(0, [], 9) == [1, 2, 3]
    assert drafts.of(0, [1], 1) == [2]
    assert drafts.of(0, [1, 2, 3], 9) == []
    assert drafts.of(1, [4, 6], 9) == [7]  # by another row
    assert drafts.of(5, [], 9) == [1, 2, 3]  # a row that was not there
    assert drafts.of(0, [9], 9) == drafts.of(0, [], 0) == Drafts().of(0, [], 9) == []


def test_a_pass_is_as_wide_as_half_of_its_rows_can_use():
    assert width([8, 8, 8, 8, 1, 1, 1]) == 8
    assert width([8, 8, 8, 1, 1, 1, 1]) == 1
    assert width([5, 2]) == 5
    assert width([3]) == 3
    assert filled([1, 2, 3], 2) == [1, 2]
    assert filled([1, 2], 4) == [1, 2, 2, 2]


def test_a_row_that_nobody_asks_about_changes_no_answer(model, changes, loop: list[Row], passes):
    """Seven rows are read as eight."""
    found = answer_rows(model, TEXT, (), [*changes, changes[1]], n_tokens=ROOM)
    assert [n_rows for n_rows, _ in passes[:2]] == [8, 8]
    assert len(found) == 7
    same(found[:-1], loop)
    assert [one.id for one in found[-1].said] == [one.id for one in loop[1].said]
