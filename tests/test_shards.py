"""Responses recorded in shards and scored in portions, by any engine, are those of one process."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broca.engines import LocalEngine, SharedEngine
from broca.model import LanguageModel
from broca.model.families import build_tiny
from broca.prompts import Prompt
from broca.responses import Responses, record_responses
from broca.run import recording, scoring
from broca.scores import Labelling, score_expertise_many
from broca.store import RunFolder
from broca.store.blocks import damaged_blocks
from tiny import TEXTS, tiny_model, tiny_tokenizer

SITES = ("gate", "up")
PROMPTS = [Prompt(str(n), f"{TEXTS[n % len(TEXTS)]} {n}", ("x",)) for n in range(23)]


class Stopping(LocalEngine):
    """Is interrupted after so many items."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def map(self, *args: Any, **named: Any) -> Any:
        for pair in super().map(*args, **named):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield pair


class Counting(LocalEngine):
    """Counts items."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Any] = []

    def map(self, function: Any, items: Sequence[Any], *args: Any, **named: Any) -> Any:
        self.items += [(type(function).__name__, item) for item in items]
        return super().map(function, items, *args, **named)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SHARD", 6)
    monkeypatch.setattr(scoring, "PORTION_BYTES", 10_000)


def record(folder: RunFolder, engine: Any, prompts: Sequence[Prompt] = PROMPTS) -> Responses:
    return recording.record(folder, engine, tiny_model("llama"), prompts, SITES, "mean", 3)


def expected() -> Responses:
    return record_responses(tiny_model("llama"), PROMPTS, SITES, batch_size=3)


def same(found: Responses, wanted: Responses) -> bool:
    assert found.prompt_ids == wanted.prompt_ids
    for site, layer, _ in wanted.index.blocks():
        np.testing.assert_array_equal(found.block(site, layer), wanted.block(site, layer))
    return True


def test_shards_put_together_are_what_one_process_records(tmp_path: Path) -> None:
    engine = Counting()
    with RunFolder.create(tmp_path / "run", {}) as folder:
        found = record(folder, engine)
        assert same(found, expected())
        assert [kind for kind, _ in engine.items].count("Recording") == 4
        assert found.folder is not None
        assert not damaged_blocks(found.folder)
        n_blocks = len(list(found.index.blocks()))
        assert len(list(found.folder.iterdir())) == n_blocks + 1
        assert not list(folder.parts_path.iterdir())
        assert same(record(folder, engine), expected())
        assert len(engine.items) == 4 + n_blocks


def test_prompts_of_one_shard_are_recorded_in_their_place(tmp_path: Path) -> None:
    engine = Counting()
    with RunFolder.create(tmp_path / "run", {}) as folder:
        found = record(folder, engine, PROMPTS[:5])
        wanted = record_responses(tiny_model("llama"), PROMPTS[:5], SITES, batch_size=3)
        assert same(found, wanted)
        assert len(engine.items) == 1


@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 8])
def test_an_interrupted_recording_goes_on(tmp_path: Path, after: int) -> None:
    path, again = tmp_path / "run", Counting()
    with RunFolder.create(path, {}) as folder, pytest.raises(KeyboardInterrupt):
        record(folder, Stopping(after))
    with RunFolder.resume(path, {}) as folder:
        assert same(record(folder, again), expected())
        folder.finish()
    whole = 4 + len(list(expected().index.blocks()))
    assert len(again.items) == whole - after - 1  # the one that was computed when it stopped
    assert not (path / ".parts").exists()


def test_what_another_process_has_put_together_is_taken(tmp_path: Path) -> None:
    """Blocks that were put together elsewhere leave no shards to read: nothing is lost."""
    with RunFolder.create(tmp_path / "run", {}) as folder:
        with pytest.raises(KeyboardInterrupt):
            record(folder, Stopping(6))
        (place,) = folder.parts_path.iterdir()
        done = sorted(path.name for path in (place / "whole").glob("*.npy"))
        site, layer, _ = done[0].split(".")
        names = tuple((path.name, ()) for path in (place / "shards").iterdir())
        recording.Joining(place / "shards", place / "whole", tmp_path / "none", names)(
            (site, int(layer))
        )
        with pytest.raises(FileNotFoundError):
            recording.Joining(place / "shards", place / "whole", tmp_path / "none", names)(
                ("down", 0)
            )
        assert same(record(folder, SharedEngine(folder.claims_path)), expected())


class Slow(SharedEngine):
    """Another process does everything while this one is at its `after`-th call of `map`."""

    def __init__(self, folder: RunFolder, after: int) -> None:
        super().__init__(folder.claims_path)
        self.folder, self.left = folder, after

    def map(self, *args: Any, **named: Any) -> Any:
        if self.left == 0:
            record(self.folder, SharedEngine(self.folder.claims_path))
        self.left -= 1
        return super().map(*args, **named)


@pytest.mark.parametrize("after", [0, 1])
def test_another_process_may_be_through_and_have_swept_up(tmp_path: Path, after: int) -> None:
    with RunFolder.create(tmp_path / "run", {}) as folder:
        assert same(record(folder, Slow(folder, after)), expected())
        assert not list(folder.parts_path.glob("*"))


def test_shards_that_are_lost_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = recording.Joining.__call__

    def losing(self: recording.Joining, block: Any) -> None:
        for file in self.shards.rglob("*.npy"):
            file.unlink()
        lost(self, block)

    monkeypatch.setattr(recording.Joining, "__call__", losing)
    with (
        RunFolder.create(tmp_path / "run", {}) as folder,
        pytest.raises(FileNotFoundError),
    ):
        record(folder, LocalEngine())


def labellings(n: int) -> dict[str, Labelling]:
    rng = np.random.default_rng(0)
    drawn = {str(i): rng.random(n) for i in range(3)}
    return {name: Labelling(p < 0.3, (p < 0.3) | (p > 0.5)) for name, p in drawn.items()}


@pytest.mark.parametrize("mixture", [False, True])
def test_scores_by_portions_are_those_of_all_at_once(tmp_path: Path, mixture: bool) -> None:
    model = LanguageModel(build_tiny("olmoe"), tiny_tokenizer()) if mixture else tiny_model("llama")
    with RunFolder.create(tmp_path / "run", {}) as folder:
        engine = Counting()
        whole = recording.record(folder, engine, model, PROMPTS, SITES, "mean", 3)
        for responses in (whole, whole.subset(range(4, 20))):
            labels = labellings(len(responses.prompt_ids))
            engine.items.clear()
            found = scoring.score(folder, engine, responses, labels)
            assert len(engine.items) == len(scoring.portions_of(responses)) > 1
            wanted = score_expertise_many(responses, labels)
            for name in labels:
                np.testing.assert_array_equal(found[name].values, wanted[name].values)
                assert found[name].settings == wanted[name].settings
                assert found[name].data_hash == wanted[name].data_hash
            scoring.score(folder, engine, responses, labels)
            assert len(engine.items) == len(scoring.portions_of(responses))
            for absolute in (False, True):
                means = scoring.average(folder, engine, responses, absolute)
                np.testing.assert_array_equal(means, responses.means(absolute=absolute))


def test_no_responses_travel(tmp_path: Path) -> None:
    """What workers are given and give back is far smaller than prompts × neurons."""
    with RunFolder.create(tmp_path / "run", {}) as folder:
        engine = Counting()
        responses = record(folder, engine)
        n_bytes = 4 * len(PROMPTS) * len(responses.index)
        work = scoring.Scoring(responses, labellings(len(PROMPTS)))
        assert len(pickle.dumps(work)) < n_bytes / 8
        blocks = scoring.portions_of(responses)[0]
        assert work(blocks)["values"].shape == (
            3,
            sum(
                where.stop - where.start
                for site, layer, where in responses.index.blocks()
                if (site, layer) in blocks
            ),
        )
